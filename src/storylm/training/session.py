"""One run in progress: what the loop calls, and what a checkpoint must hold to go on bit for bit."""

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from storylm.config.schema import RunConfig
from storylm.data.batches import PackedBatches, PaddedBatches
from storylm.evaluation.likelihood import Likelihood, evaluate
from storylm.generation.engine import generate
from storylm.text.tokenizer import Tokenizer
from storylm.training.checkpoint import Checkpoints, TrainerState, optimizer_tensors, restore_optimizers
from storylm.training.clock import Clock, MinuteClock, StepClock
from storylm.training.learner import Learner
from storylm.training.observers import EvaluationRecord, Observers, StepRecord
from storylm.training.timer import Timer

Batches = PackedBatches | PaddedBatches
SAVING_SECONDS = 3.0  # set aside at the end of a run of so many minutes, for samples and the last checkpoint


@dataclass
class State:
    """The numbers of a run. Everything here is saved, so that a resumed run logs what it would have logged."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    bad_in_a_row: int = 0
    without_gain: int = 0
    best: float | None = None  # bits per byte
    evaluated_at: int | None = None
    ended: str | None = None  # "finished" or "no gain", once the run is over
    window_nats: float = 0.0  # since the last line of metrics.jsonl
    window_tokens: int = 0
    window_norm: float = 0.0


class Session:
    """Model, data, clock and observers of one run. `state` is where it stands."""

    def __init__(
        self,
        config: RunConfig,
        learner: Learner,
        tokenizer: Tokenizer,
        batches: Batches,
        validation: list[str],
        validation_tokens: int,
        clock: Clock,
        checkpoints: Checkpoints,
        observers: Observers,
    ):
        self.config, self.learner, self.tokenizer, self.batches = config, learner, tokenizer, batches
        self.validation, self.clock, self.checkpoints, self.observers = validation, clock, checkpoints, observers
        self.state = State()
        self.best_pass: Likelihood | None = None  # over all of validation, where this process made it
        self._timer = Timer()
        self._tokens_per_story = validation_tokens / max(1, len(validation))
        self._seconds_per_story: float | None = None  # of judging, once it is known

    # -- what the loop does --------------------------------------------------------------------------

    def update(self, factor: float) -> None:
        """One optimizer step on the batches of this step."""
        state, train = self.state, self.config.train
        micro_batches = [self.batches.batch(state.step, micro) for micro in range(train.accumulation)]
        update = self.learner.update(micro_batches, factor, seed=train.seed * 1_000_003 + state.step)
        state.step += 1
        state.tokens += update.tokens
        if update.applied:
            state.bad_in_a_row = 0
            state.window_nats += float(update.nats)
            state.window_tokens += update.tokens
            state.window_norm = update.gradient_norm
        else:
            state.skipped += 1
            state.bad_in_a_row += 1
        self._timer.step(update.tokens)
        self.clock.observe(self._timer.seconds_per_step, self._seconds_at_the_end())

    def log(self, factor: float) -> None:
        """A line of metrics over the steps since the last one."""
        state = self.state
        self.observers.after_step(
            StepRecord(
                step=state.step,
                steps=self.clock.steps if isinstance(self.clock, StepClock) else None,
                progress=min(1.0, self.clock.progress(state.step)),
                loss=state.window_nats / max(1, state.window_tokens),
                lr=factor * self.config.optim.lr,
                gradient_norm=state.window_norm,
                tokens=state.tokens,
                epoch=self.batches.epoch(state.step),
                tokens_per_second=self._timer.tokens_per_second(),
                seconds=self._timer.elapsed(),
                skipped=state.skipped,
            )
        )
        state.window_nats, state.window_tokens = 0.0, 0

    def evaluate(self) -> bool:
        """One pass over the validation stories, the same ones every time; whether it is the best so far.

        In fp32 whatever the run's precision, so that the figure is the one that `storylm evaluate` finds.
        """
        stories = self.validation[: self.config.train.eval_stories]
        if not stories:
            return False
        state = self.state
        began = time.monotonic()
        with self._timer.pause(), _uncompiled():
            likelihood = evaluate(self.learner.model, self.tokenizer, stories)
        self._seconds_per_story = (time.monotonic() - began) / len(stories)
        best = state.best is None or likelihood.bits_per_byte < state.best
        state.best, state.without_gain = (likelihood.bits_per_byte, 0) if best else (state.best, state.without_gain + 1)
        state.evaluated_at = state.step
        if best:
            self.best_pass = likelihood if len(stories) == len(self.validation) else None
        self.observers.after_evaluation(
            EvaluationRecord(
                step=state.step,
                tokens=state.tokens,
                epoch=self.batches.epoch(state.step),
                seconds=self._timer.elapsed(),
                nats_per_token=likelihood.nats_per_token,
                perplexity=likelihood.perplexity,
                bits_per_byte=likelihood.bits_per_byte,
                best=best,
            )
        )
        return best

    def sample(self) -> None:
        """A story from each of the run's prompts, the same seed every time."""
        with self._timer.pause(), _uncompiled():
            stories = generate(
                self.learner.model,
                self.tokenizer,
                self.config.train.sample_prompts,
                max_new_tokens=min(200, self.config.model.context // 2),
                temperature=0.8,
                seed=self.config.train.seed,
                truncate="left",
            )
        for story in stories:
            self.observers.after_sample(self.state.step, story)

    def save_due(self) -> bool:
        """Whether the settings ask for a checkpoint now: every so many steps, or minutes, or to be kept."""
        train = self.config.train
        by_step = train.save_every > 0 and self.state.step % train.save_every == 0
        by_time = train.save_minutes is not None and self._timer.since_save() >= 60 * train.save_minutes
        return by_step or by_time or self._to_keep()

    def save(self, best: bool = False) -> None:
        """Write the checkpoint `last`, and `best` with it where asked."""
        self.state.seconds = self._timer.elapsed()
        tensors, optimizers = optimizer_tensors(self.learner.optimizers, self.learner.model)
        values = {
            "state": asdict(self.state),
            "optimizers": optimizers,
            "scaler": self.learner.scaler.state_dict(),
        }
        self.observers.before_checkpoint()
        with self._timer.pause():
            self.checkpoints.save(TrainerState(self.state.step, values, tensors), best=best, keep=self._to_keep())
        self._timer.saved()

    def finish(self, factor: float) -> None:
        """What is left to do when training is over: the last line, pass, samples and checkpoint."""
        if self.state.window_tokens:
            self.log(factor)
        best = self.state.evaluated_at != self.state.step and self.evaluate()
        self.sample()
        self.save(best)

    def restore(self, saved: TrainerState) -> None:
        """Go on from a checkpoint whose weights are loaded already."""
        restore_optimizers(self.learner.optimizers, self.learner.model, saved.tensors, saved.values["optimizers"])
        if saved.values["scaler"]:
            self.learner.scaler.load_state_dict(saved.values["scaler"])
        known = {field.name for field in fields(State)}
        self.state = State(**{name: value for name, value in saved.values["state"].items() if name in known})
        self._timer.before = self.state.seconds
        if isinstance(self.clock, MinuteClock):
            self.clock.before = self.state.seconds

    # ------------------------------------------------------------------------------------------------

    def _to_keep(self) -> bool:
        train, step = self.config.train, self.state.step
        log_spaced = train.keep_log_spaced and step > 0 and step & (step - 1) == 0
        return log_spaced or (train.keep_every is not None and step > 0 and step % train.keep_every == 0)

    def _seconds_at_the_end(self) -> float:
        """What the last passes over validation, the samples and saving will take.

        Until a pass has been timed, judging a story is taken to cost what learning from one does: too much
        on paper (there is no backward pass), about right uncompiled.
        """
        judged = len(self.validation[: self.config.train.eval_stories])
        judged += len(self.validation) if judged < len(self.validation) else 0
        per_story = self._seconds_per_story
        if per_story is None:
            tokens_per_step = max(1.0, self.state.tokens / self.state.step)
            per_story = self._timer.seconds_per_step / tokens_per_step * self._tokens_per_story
        return SAVING_SECONDS + judged * per_story


def _uncompiled() -> Any:
    """Compiled blocks would compile anew for every length of story; judging and telling run them as they are."""
    return torch.compiler.set_stance("force_eager")

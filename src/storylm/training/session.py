"""One run in progress: what the loop calls, and what a checkpoint must hold to go on bit for bit."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from storylm.training.signals import StopSignal
from storylm.training.timer import Timer

Batches = PackedBatches | PaddedBatches


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """A pass over validation was given up because someone asked the run to stop."""


@dataclass
class State:
    """The numbers of a run. Everything here is saved, so that a resumed run logs what it would have logged."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    bad_in_a_row: int = 0
    without_gain: int = 0
    factor: float = 0.0  # of the learning rates, in the last step
    evaluated_at: int | None = None
    looked_at: int | None = None  # the last step at which all that was due besides the update was done
    best_pass: dict[str, Any] | None = None  # the `Likelihood` of the best pass over validation
    ended: str | None = None  # "finished" or "no gain", once the run is over
    window_nats: float = 0.0  # since the last line of metrics.jsonl
    window_tokens: int = 0
    window_norm: float = 0.0


class Session:
    """Model, data, clock and observers of one run. `state` is where it stands.

    A long pass over validation raises `Stopped` once `stop.requested`: whoever stops a run has no minutes to wait.
    """

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
        stop: StopSignal,
    ):
        self.config, self.learner, self.tokenizer, self.batches = config, learner, tokenizer, batches
        self.validation, self.clock, self.checkpoints, self.stop = validation, clock, checkpoints, stop
        self.observers = Observers([])
        self.state = State()
        self._timer = Timer()
        self._tokens_per_story = validation_tokens / max(1, len(validation))
        # What the end of the run takes; as measured, once it has been.
        self._seconds_per_story: float | None = None
        self._seconds_of = {"sample": 1.0, "save": 2.0}

    # -- what the loop does --------------------------------------------------------------------------

    def update(self, factor: float) -> None:
        """One optimizer step on the batches of this step."""
        state, train = self.state, self.config.train
        micro_batches = [self.batches.batch(state.step, micro) for micro in range(train.accumulation)]
        update = self.learner.update(micro_batches, factor, seed=train.seed * 1_000_003 + state.step)
        state.factor = factor
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

    def log(self) -> None:
        """A line of metrics over the steps since the last one; the loss is NaN where all of them were skipped."""
        state = self.state
        self.observers.after_step(
            StepRecord(
                step=state.step,
                steps=self.clock.steps if isinstance(self.clock, StepClock) else None,
                progress=min(1.0, self.clock.progress(state.step)),
                loss=state.window_nats / state.window_tokens if state.window_tokens else math.nan,
                lr=state.factor * self.config.optim.lr,
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
            likelihood = evaluate(self.learner.model, self.tokenizer, stories, progress=self._heed_stop)
        self._seconds_per_story = (time.monotonic() - began) / len(stories)
        before = math.inf if state.best_pass is None else Likelihood(**state.best_pass).bits_per_byte
        best = likelihood.bits_per_byte < before  # never where it is not a number
        state.without_gain = 0 if best else state.without_gain + 1
        state.evaluated_at = state.step
        if best:
            state.best_pass = asdict(likelihood)
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
        with self._aside("sample"), _uncompiled():
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
        with self._aside("save"):
            self.checkpoints.save(TrainerState(self.state.step, values, tensors), best=best, keep=self._to_keep())
        self._timer.saved()

    def look(self) -> None:
        """What is due after this step besides the update: judge, tell, save."""
        train, state = self.config.train, self.state
        best = is_due(train.eval_every, state.step) and self.evaluate()
        if is_due(train.sample_every, state.step):
            self.sample()
        state.looked_at = state.step
        if best or self.save_due():
            self.save(best)

    def finish(self, reason: str) -> None:
        """What is left to do when training is over: the last line, pass, samples and checkpoint."""
        if self.state.window_tokens:
            self.log()
        best = self.state.evaluated_at != self.state.step and self.evaluate()
        self.sample()
        self.state.ended = reason
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
        return sum(self._seconds_of.values()) + judged * per_story

    def _heed_stop(self, stories: int, tokens: int) -> None:
        if self.stop.requested:
            raise Stopped

    @contextmanager
    def _aside(self, what: str) -> Iterator[None]:
        """Time that is not training's; how much is noted for the end of the run."""
        began = time.monotonic()
        with self._timer.pause():
            yield
        self._seconds_of[what] = time.monotonic() - began


def is_due(every: int, step: int) -> bool:
    """Whether something that happens `every` so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def _uncompiled() -> Any:
    """Compiled blocks would compile anew for every length of story; judging and telling run them as they are."""
    return torch.compiler.set_stance("force_eager")

"""One run in progress: what the loop calls, and what a checkpoint must hold to go on bit for bit."""

import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from storylm.config.schema import RunConfig
from storylm.data.batches import PackedBatches, PaddedBatches
from storylm.evaluate.likelihood import Likelihood, evaluate
from storylm.generate.engine import generate
from storylm.text.tokenizer import Tokenizer
from storylm.train.checkpoint import Checkpoints, TrainerState, optimizer_tensors, restore_optimizers
from storylm.train.clock import Clock, MinuteClock, StepClock
from storylm.train.device import autocast
from storylm.train.learner import Learner
from storylm.train.observers import EvaluationRecord, Observers, StepRecord

Batches = PackedBatches | PaddedBatches


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
        self.validation, self.clock, self.checkpoints, self.observers = (
            validation,
            clock,
            checkpoints,
            observers,
        )
        self.state = State()
        self.last_evaluation: Likelihood | None = None
        self._evaluation_seconds: float | None = None
        self._validation_tokens = validation_tokens
        now = time.monotonic()
        self._resumed_at = self._logged_at = self._saved_at = self._updated_at = now
        self._seconds_before = 0.0
        self._tokens_logged = 0

    # -- what the loop does --------------------------------------------------------------------------

    def update(self, factor: float) -> None:
        """One optimizer step on the batches of this step."""
        state, train = self.state, self.config.train
        micro_batches = [self.batches.batch(state.step, micro) for micro in range(train.accumulation)]
        update = self.learner.update(micro_batches, factor, seed=_mix(train.seed, state.step))
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
        self._observe_time()

    def log(self, progress: float, factor: float) -> None:
        """A line of metrics over the steps since the last one."""
        state = self.state
        now = time.monotonic()
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
                tokens_per_second=(state.tokens - self._tokens_logged) / max(1e-9, now - self._logged_at),
                seconds=self._elapsed(),
                skipped=state.skipped,
            )
        )
        state.window_nats, state.window_tokens = 0.0, 0
        self._logged_at, self._tokens_logged = now, state.tokens

    def evaluate(self) -> Likelihood | None:
        """The fixed full pass over validation; notes whether this is the best so far."""
        if not self.validation:
            return None
        state, began = self.state, time.monotonic()
        with autocast(self.learner.model.device, self.learner.precision), _uncompiled():
            likelihood = evaluate(self.learner.model, self.tokenizer, self.validation)
        bits_per_byte = likelihood.bits_per_byte
        improved = state.best is None or bits_per_byte < state.best
        state.best, state.without_gain = (bits_per_byte, 0) if improved else (state.best, state.without_gain + 1)
        state.evaluated_at, self.last_evaluation = state.step, likelihood
        self.observers.after_evaluation(
            EvaluationRecord(
                step=state.step,
                tokens=state.tokens,
                epoch=self.batches.epoch(state.step),
                seconds=self._elapsed(),
                nats_per_token=likelihood.nats_per_token,
                perplexity=likelihood.perplexity,
                bits_per_byte=bits_per_byte,
                best=improved,
            )
        )
        if improved and state.step:
            self.save(best=True)
        self._evaluation_seconds = time.monotonic() - began
        self._pause(began)
        return likelihood

    def sample(self) -> None:
        """A story from each of the run's prompts, the same seed every time."""
        began = time.monotonic()
        with autocast(self.learner.model.device, self.learner.precision), _uncompiled():
            stories = generate(
                self.learner.model,
                self.tokenizer,
                list(self.config.train.sample_prompts),
                max_new_tokens=min(200, self.config.model.context // 2),
                temperature=0.8,
                seed=self.config.train.seed,
            )
        for story in stories:
            self.observers.after_sample(self.state.step, story)
        self._pause(began)

    def save_due(self) -> bool:
        """Whether the settings ask for a checkpoint now: every so many steps, or minutes, or powers of two."""
        train, step = self.config.train, self.state.step
        by_step = train.save_every > 0 and step % train.save_every == 0
        by_time = train.save_minutes is not None and time.monotonic() - self._saved_at >= 60 * train.save_minutes
        return by_step or by_time or self._keep()

    def save(self, best: bool = False) -> Path:
        """Write the checkpoint `last`, and `best` with it where asked."""
        began = time.monotonic()
        self.state.seconds = self._elapsed()
        tensors, optimizer_values = optimizer_tensors(self.learner.optimizers, self.learner.model)
        values = {
            "state": asdict(self.state),
            "optimizers": optimizer_values,
            "scaler": self.learner.scaler.state_dict(),
        }
        path = self.checkpoints.save(TrainerState(self.state.step, values, tensors), best=best, keep=self._keep())
        self._saved_at = time.monotonic()
        self._pause(began)
        return path

    def finish(self, reason: str) -> str:
        """What is left to do when the loop has ended for `reason`: the last line, pass, samples and checkpoint."""
        if reason in ("finished", "no gain"):
            progress = min(1.0, self.clock.progress(self.state.step))
            if self.state.window_tokens:
                self.log(progress, learning_rate_factor(self.config.optim, self.state.step, progress))
            if self.state.evaluated_at != self.state.step or self.config.train.eval_stories is not None:
                self.evaluate(self.validation)
            self.sample()
            self.state.ended = reason
            self.save()
        elif reason == "interrupted":
            self.observers.message(f"saved at step {self.state.step}; go on with: storylm train --resume {self.folder}")
        else:
            self.observers.message(
                f"stopped at step {self.state.step}: {self.state.bad_in_a_row} updates in a row were not finite. "
                f"The last good checkpoint is in {self.checkpoints.folder}; try a lower optim.lr, a smaller optim.clip "
                f"or train.precision=fp32"
            )
        return reason

    def restore(self, saved: TrainerState) -> None:
        """Go on from a checkpoint whose weights are loaded already."""
        restore_optimizers(self.learner.optimizers, self.learner.model, saved.tensors, saved.values["optimizers"])
        if saved.values["scaler"]:
            self.learner.scaler.load_state_dict(saved.values["scaler"])
        known = {field.name for field in fields(State)}
        self.state = State(**{name: value for name, value in saved.values["state"].items() if name in known})
        self._seconds_before = self.state.seconds
        self._tokens_logged = self.state.tokens
        if isinstance(self.clock, MinuteClock):
            self.clock.before = self.state.seconds

    # -- time ----------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self._resumed_at

    def _pause(self, began: float) -> None:
        """Leave the time since `began` out of tokens per second and of the time a step takes."""
        pause = time.monotonic() - began
        self._logged_at += pause
        self._updated_at += pause

    def _observe_time(self) -> None:
        now = time.monotonic()
        seconds, self._updated_at = now - self._updated_at, now
        self.clock.observe(seconds, self._seconds_at_the_end(seconds))

    def _seconds_at_the_end(self, seconds_per_step: float) -> float:
        """What the last evaluation, samples and saving will take.

        Until an evaluation has been timed, judging a token is taken to cost what learning from one does:
        too much on paper (no backward pass), about right uncompiled.
        """
        if self._evaluation_seconds is None:
            tokens_per_step = max(1.0, self.state.tokens / self.state.step)
            return 3.0 + self._validation_tokens * seconds_per_step / tokens_per_step
        return 3.0 + self._evaluation_seconds

    def _keep(self) -> bool:
        train, step = self.config.train, self.state.step
        log_spaced = train.keep_log_spaced and step > 0 and step & (step - 1) == 0
        return log_spaced or (train.keep_every is not None and step > 0 and step % train.keep_every == 0)


def _uncompiled() -> Any:
    """Compiled blocks would compile anew for every length of story; judging and telling run them as they are."""
    return torch.compiler.set_stance("force_eager")


def _mix(seed: int, step: int) -> int:
    """A seed of 63 bits for one step (SplitMix64's finaliser), so that neighbouring steps are unrelated."""
    z = (seed * 0x9E3779B97F4A7C15 + step + 1) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (z ^ z >> 31) >> 1

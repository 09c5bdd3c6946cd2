"""One run in progress: what the loop calls, and what a checkpoint must hold to go on bit for bit."""

import math
from dataclasses import asdict, fields

import torch

from storylm.config.schema import RunConfig
from storylm.data.batches import PackedBatches, PaddedBatches
from storylm.evaluation.likelihood import Likelihood
from storylm.generation.engine import generate
from storylm.model.count import flops_per_token
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.training.checkpoint import Checkpoints, TrainerState, optimizer_tensors, restore_optimizers
from storylm.training.clock import Clock, MinuteClock, StepClock
from storylm.training.ending import Ending
from storylm.training.judging import Stopped, judge, uncompiled
from storylm.training.learner import Learner, Update
from storylm.training.memory import peak_memory
from storylm.training.needs import checkpoint_bytes
from storylm.training.observers import EvaluationRecord, Observers, StepRecord
from storylm.training.out_of_memory import answered
from storylm.training.peak import matmul_peak
from storylm.training.raw_weights import raw_tensors, restore_raw
from storylm.training.signals import StopSignal
from storylm.training.standing import State
from storylm.training.timer import Timer

Batches = PackedBatches | PaddedBatches
NEXT_RANK = 0x9E3779B1  # between the dropout seeds of two ranks; of a seed the CPU's generator takes 32 bits
UNREAD = 100  # updates on a GPU whose numbers may wait, at most


class NotFinite(Exception):  # noqa: N818 (a way for a run to end)
    """Weights are no longer numbers: there is nothing to judge, tell or save."""


class Session:
    """Model, data, clock and observers of one run. `state` is where it stands.

    `progress` and `evaluate` raise `Stopped` once anyone asked the run to stop; `evaluate`, `sample` and `save` raise
    `NotFinite` where the weights are broken. On several ranks, each has a session: all of them go through the same
    steps, and what is told and saved, rank 0 tells and saves.
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
        self.ranks = learner.ranks
        self.validation, self.clock, self.checkpoints, self.stop = validation, clock, checkpoints, stop
        self.observers = Observers([])
        self.state = State()
        self._unread: list[Update] = []
        self._save_by_time = False
        # A run by the clock that is stopped and goes on has used up what was before this, too.
        self._timer = Timer(clock.started if isinstance(clock, MinuteClock) else None)
        some, all_of_them = len(validation[: config.train.eval_stories]), len(validation)
        at_the_end = some if some == all_of_them or not config.train.judge_all else some + all_of_them
        tokens_per_story = validation_tokens / max(1, all_of_them)
        samples = len(config.train.sample_prompts)
        self._ending = Ending(self._timer, at_the_end, tokens_per_story, samples, checkpoint_bytes(config))

    # -- what the loop does --------------------------------------------------------------------------

    def progress(self) -> float:
        """The share of the run done, by rank 0's clock. Raises `Stopped` where any rank was asked to stop."""
        progress, save, stop = 0.0, False, self.stop.exit_code if self.stop.requested else 0
        if self.ranks.is_main:
            minutes = self.config.train.save_minutes
            progress = self.clock.progress(self.state.step)
            save = minutes is not None and self._timer.since_save() >= 60 * minutes
        progress, save, stop = self.ranks.highest([progress, save, stop])
        self._save_by_time = bool(save)
        if stop:
            self.stop.request(int(stop))
            raise Stopped
        return progress

    def update(self, factor: float) -> None:
        """One optimizer step on the batches of this step."""
        state, train, ranks = self.state, self.config.train, self.ranks
        micro_batches = [
            self.batches.batch(state.step, micro, ranks.rank, ranks.size)
            for micro in range(self.batches.micro_batches(ranks.size))
        ]
        seed = train.seed * 1_000_003 + state.step + NEXT_RANK * ranks.rank
        with answered(self.learner, self.config):
            update = self.learner.update(micro_batches, factor, seed)
        state.factor = factor
        state.step += 1
        state.tokens += update.tokens
        self._unread.append(update)
        if not read_late(self.learner.model.device) or len(self._unread) >= UNREAD or self._anything_due():
            self._read()

    @property
    def diverged(self) -> bool:
        """Whether too many steps in a row were not finite, as far as the numbers have been read."""
        return self.state.bad_in_a_row >= self.config.train.max_bad_steps

    def log(self) -> None:
        """A line of metrics over the steps since the last one; the loss is NaN where all of them were skipped."""
        state, speed = self.state, self._timer.tokens_per_second()
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
                tokens_per_second=speed,
                seconds=self._timer.elapsed(),
                skipped=state.skipped,
                share_of_peak=self._share_of_peak(speed),
                memory_bytes=peak_memory(self.learner.model.device),
            )
        )
        state.window_nats, state.window_tokens = 0.0, 0

    def evaluate(self) -> bool:
        """One pass over the validation stories, the same ones every time; whether it is the best so far."""
        stories = self.validation[: self.config.train.eval_stories]
        if not stories:
            return False
        state = self.state
        with self._ending.aside("story", len(stories)):
            likelihood = judge(self._gathered(), self.tokenizer, stories, self.ranks, self.stop)
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
        model = self._gathered()
        with self._ending.aside("sample"), self.ranks.main_first():
            if not self.ranks.is_main:
                return
            with uncompiled():
                stories = generate(
                    model,
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
        return is_due(self.config.train.save_every, self.state.step) or self._save_by_time or self._to_keep()

    def save(self, best: bool = False) -> None:
        """Write the checkpoint `last`, and `best` with it where asked."""
        self._read()
        self.state.seconds = self._timer.elapsed()
        if isinstance(self.clock, MinuteClock):
            self.state.lead = self.clock.lead
        tensors, optimizers = optimizer_tensors(self.learner.optimizers, self.learner.model)
        tensors |= raw_tensors(self.learner.model, self.learner.wrapped.average)
        values = {
            "state": asdict(self.state),
            "optimizers": optimizers,
            "scaler": self.learner.scaler.state_dict(),
        }
        self._gathered()  # what `checkpoints` writes
        with self._ending.aside("save"), self.ranks.main_first():
            if self.ranks.is_main:
                self.observers.before_checkpoint()
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
        self._read()
        if self.diverged:  # in steps whose numbers had not been read yet
            raise NotFinite
        if self.state.window_tokens:
            self.log()
        best = self.state.evaluated_at != self.state.step and self.evaluate()
        self.sample()
        self.state.ended = reason
        self.save(best)

    def restore(self, saved: TrainerState) -> None:
        """Go on from a checkpoint whose weights are loaded already."""
        model, average = self.learner.model, self.learner.wrapped.average
        restore_optimizers(
            self.learner.optimizers, model, restore_raw(model, average, saved.tensors), saved.values["optimizers"]
        )
        if saved.values["scaler"]:
            self.learner.scaler.load_state_dict(saved.values["scaler"])
        known = {field.name for field in fields(State)}
        self.state = State(**{name: value for name, value in saved.values["state"].items() if name in known})
        self._timer.before = self.state.seconds
        if isinstance(self.clock, MinuteClock):
            self.clock.before, self.clock.lead = self.state.seconds, self.state.lead

    # ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Count what the updates since the last reading did."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        numbers = torch.stack([torch.stack([one.nats, one.gradient_norm, one.applied]) for one in unread]).tolist()
        for update, (nats, norm, applied) in zip(unread, numbers, strict=True):
            if not self.diverged:
                self.state.count(nats, update.tokens, norm, bool(applied))
        self._timer.step(sum(update.tokens for update in unread), len(unread))
        self.clock.observe(self._timer.seconds_per_step, self._ending.seconds(self.state.tokens / self.state.step))

    def _gathered(self) -> Transformer:
        """The model as it is now, whole on every rank; `NotFinite` where it is of no use any more.

        An update may be finite and what it leads to not: so this is asked of the weights, too, not of gradients only.
        """
        model = self.learner.wrapped.gather()
        broken = not all(bool(weight.isfinite().all()) for weight in model.parameters())
        if any(self.ranks.highest([broken])):
            raise NotFinite
        return model

    def _anything_due(self) -> bool:
        train = self.config.train
        periods = (train.log_every, train.eval_every, train.sample_every)
        return any(is_due(every, self.state.step) for every in periods) or self.save_due()

    def _share_of_peak(self, tokens_per_second: float) -> float | None:
        """Of the arithmetic that all devices together could do; only rank 0 needs to know."""
        if not self.ranks.is_main:
            return None
        with self._timer.pause():  # the first time, it may have to be measured
            peak = matmul_peak(self.learner.model.device, self.learner.precision)
        tokens = round(self.batches.tokens_per_epoch / self.batches.rows_per_epoch)
        return flops_per_token(self.config.model, tokens) * tokens_per_second / (peak * self.ranks.size)

    def _to_keep(self) -> bool:
        train, step = self.config.train, self.state.step
        log_spaced = train.keep_log_spaced and step > 0 and step & (step - 1) == 0
        return log_spaced or (train.keep_every is not None and step > 0 and step % train.keep_every == 0)


def read_late(device: torch.device) -> bool:
    """Whether to leave numbers on the device until they are needed.

    Reading one from a GPU waits until it has done all its work, and meanwhile it is given no more.
    """
    return device.type != "cpu"


def is_due(every: int, step: int) -> bool:
    """Whether something that happens `every` so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0

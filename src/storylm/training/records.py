"""What the loop tells its observers, and what an observer is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepRecord:
    """The training steps since the last record, seen from the newest one."""

    step: int  # updates done
    steps: int | None  # updates planned; None where the clock decides
    progress: float  # share of the run done, 0 to 1
    loss: float  # nats per token, the mean since the last record
    lr: float
    gradient_norm: float  # of this step, before clipping
    tokens: int  # trained on so far
    epoch: float
    tokens_per_second: float
    seconds: float  # since the start of the run, interruptions left out
    skipped: int  # updates left out so far because they were not finite
    share_of_peak: float | None = None  # of the arithmetic the devices can do; None where that is not known
    memory_bytes: int | None = None  # the most that was in use on this rank's device so far


@dataclass(frozen=True)
class EvaluationRecord:
    """One pass over validation."""

    step: int
    tokens: int
    epoch: float
    seconds: float
    nats_per_token: float
    perplexity: float
    bits_per_byte: float
    best: bool  # the lowest bits per byte so far


class Observer:
    """Someone who watches a run. Every method does nothing unless overridden.

    What is told about a step comes before the checkpoint of that step is saved. So who writes things down and
    is built for a run that goes on from step s forgets what is later than s; what is then told continues
    the record as if nothing had happened.

    >>> class Bell(Observer):
    ...     def after_evaluation(self, record):
    ...         print("ding" if record.best else "...")
    """

    essential = False  # True: a run must stop where this one fails, rather than go on unwatched

    def after_step(self, record: StepRecord) -> None:
        """Some steps are done."""

    def after_evaluation(self, record: EvaluationRecord) -> None:
        """Validation has been read."""

    def after_sample(self, step: int, text: str) -> None:
        """The model told a story. Several may come for one step, one for each prompt."""

    def message(self, text: str) -> None:
        """A line for whoever sits in front of the screen."""

    def before_checkpoint(self) -> None:
        """A checkpoint is about to be saved: what was told so far must survive whatever it survives."""

    def close(self) -> None:
        """The run is over, for whatever reason. May be called twice."""

"""Who watches a run: the files it leaves, the screen, and other people's tools."""

from collections.abc import Sequence
from pathlib import Path

from storylm.config.errors import UserError
from storylm.config.schema import RunConfig
from storylm.training.console import ConsoleObserver
from storylm.training.curves import LossPlot
from storylm.training.metrics import MetricsFile
from storylm.training.records import EvaluationRecord, Observer, StepRecord
from storylm.training.samples import SamplesFile
from storylm.training.trackers import open_trackers

__all__ = ["EvaluationRecord", "Observer", "Observers", "StepRecord", "build_observers"]


def build_observers(config: RunConfig, folder: Path, first_step: int) -> list[Observer]:
    """The observers that `config` asks for of the run in `folder`, which goes on from step `first_step` (0: begins).

    Writes no file before there is something to write, except where a tracker is asked for. Raises `SetupError`
    where a tracker's package is missing.
    """
    metrics = MetricsFile(folder / "metrics.jsonl", first_step)
    plot = [LossPlot(metrics.path, folder / "loss.png")] if config.track.plot else []
    return [
        metrics,
        SamplesFile(folder / "samples.md", first_step),
        *plot,  # after the file that it draws
        *open_trackers(config, folder, first_step),
        ConsoleObserver(),
    ]


class Observers(Observer):
    """Several observers as one.

    Where an essential one fails, its error is raised. Where another one does, that is said once, and the run
    goes on.
    """

    def __init__(self, observers: Sequence[Observer]):
        self.observers = list(observers)
        self._failed: list[Observer] = []

    def after_step(self, record: StepRecord) -> None:
        """Tell all."""
        self._tell("after_step", record)

    def after_evaluation(self, record: EvaluationRecord) -> None:
        """Tell all."""
        self._tell("after_evaluation", record)

    def after_sample(self, step: int, text: str) -> None:
        """Tell all."""
        self._tell("after_sample", step, text)

    def message(self, text: str) -> None:
        """Tell all."""
        self._tell("message", text)

    def before_checkpoint(self) -> None:
        """Tell all."""
        self._tell("before_checkpoint")

    def close(self) -> None:
        """Close all, also where one of them fails."""
        self._tell("close")

    def _tell(self, method: str, *arguments: object) -> None:
        essential: Exception | None = None
        for observer in self.observers:
            try:
                getattr(observer, method)(*arguments)
            except Exception as error:
                if observer.essential:
                    essential = essential or error
                else:
                    self._report(observer, error)
        if essential is not None:
            raise essential

    def _report(self, observer: Observer, error: Exception) -> None:
        if observer in self._failed:
            return
        self._failed.append(observer)
        name, kind = type(observer).__name__, type(error).__name__
        self.message(str(error) if isinstance(error, UserError) else f"{name} failed, the run goes on: {kind}: {error}")

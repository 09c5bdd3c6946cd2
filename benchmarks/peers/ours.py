"""storylm as its users start it: the whole of `train_run`, with its data, logging and files."""

from pathlib import Path
from typing import Any

from storylm.config.load import apply_overrides
from storylm.config.schema import RunConfig
from storylm.training.observers import Observer, StepRecord, build_observers
from storylm.training.run import train_run

from .settings import config_of
from .turn import Laps, Turn


class LapObserver(Observer):
    """Looks at the clock whenever the run writes a line of metrics."""

    essential = True  # so that `Finished` ends the run

    def __init__(self, laps: Laps):
        self.laps = laps

    def after_step(self, record: StepRecord) -> None:
        self.laps.lap(record.loss)


def run(turn: Turn, laps: Laps, ready: Any) -> None:
    """Train until the laps are done, with every observer that a run has."""
    config = own_config(turn)
    folder = Path(turn.folder) / "run"
    ready(version=_version())
    train_run(config, folder, observers=[*build_observers(config, folder, 0), LapObserver(laps)])


def own_config(turn: Turn) -> RunConfig:
    """The settings of the turn; nothing but training happens in it."""
    flags = turn.flags
    return apply_overrides(
        config_of(turn),
        [
            f"train.device={turn.device}",
            f"train.precision={min(flags & {'fp32', 'bf16'}, default='auto')}",
            f"train.compile={'off' if 'eager' in flags else 'on' if 'compile' in flags else 'auto'}",
            "train.steps=100000",  # long enough to compile for
            f"train.log_every={turn.lap_steps}",
            "train.eval_every=0",
            "train.sample_every=0",
            "train.save_every=0",
            "train.save_minutes=null",
        ],
    )


def _version() -> str:
    from importlib.metadata import version

    return f"storylm {version('storylm')}"

"""Metrics in other people's tools: TensorBoard, Weights & Biases, trackio. Each is a way to open one."""

import json
import math
import secrets
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from storylm.config.errors import SetupError
from storylm.config.files import write_text
from storylm.config.schema import RunConfig
from storylm.training.records import EvaluationRecord, Observer, StepRecord

Numbers = dict[str, float]


class Tracker(Observer):
    """Hands the finite numbers of each record to `log(numbers, step)`, and calls `end` once when the run is over."""

    def __init__(self, log: Callable[[Numbers, int], Any], end: Callable[[], Any]):
        self._log, self._end = log, end

    def after_step(self, record: StepRecord) -> None:
        """Log loss, learning rate and the like under "train/"."""
        numbers = {
            "loss": record.loss,
            "lr": record.lr,
            "gradient_norm": record.gradient_norm,
            "tokens_per_second": record.tokens_per_second,
            "tokens": record.tokens,
            "epoch": record.epoch,
            "skipped": record.skipped,
            "share_of_peak": record.share_of_peak,
            "memory_bytes": record.memory_bytes,
        }
        self._log(_named("train", numbers), record.step)

    def after_evaluation(self, record: EvaluationRecord) -> None:
        """Log what validation gave under "validation/"."""
        numbers = {
            "loss": record.nats_per_token,
            "perplexity": record.perplexity,
            "bits_per_byte": record.bits_per_byte,
        }
        self._log(_named("validation", numbers), record.step)

    def close(self) -> None:
        """End the tool's run."""
        self._end, end = _nothing, self._end
        end()


def open_trackers(config: RunConfig, folder: Path, first_step: int) -> list[Observer]:
    """The trackers that `config.track` asks for, going on with what they have of this run.

    Raises `SetupError` where a package is missing: at the start, not when there is something to log.
    """
    asked = [name for name in OPENERS if getattr(config.track, name)]
    for name in asked:  # all of them before the first one leaves anything in the folder
        _package(name)
    return [OPENERS[name](config, folder, first_step) for name in asked]


def _tensorboard(config: RunConfig, folder: Path, first_step: int) -> Tracker:
    # What an interrupted run logged after the step that this one goes on from is to be hidden.
    writer = import_module("torch.utils.tensorboard").SummaryWriter(
        str(folder / "tensorboard"), purge_step=first_step + 1
    )

    def log(numbers: Numbers, step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return Tracker(log, writer.close)


def _wandb(config: RunConfig, folder: Path, first_step: int) -> Tracker:
    wandb = _package("wandb")
    options: dict[str, Any] = {
        "project": config.track.wandb,
        "name": folder.name,
        "id": _run_id(folder),
        "resume": "allow",
        "dir": str(folder),
        "config": config.model_dump(mode="json"),
        "settings": {"console": "off"},  # it would take our live line for output
    }
    try:
        run = wandb.init(**options)
    except wandb.Error:  # not logged in, or no network: `wandb sync` can send it later
        run = wandb.init(**options, mode="offline")
    return Tracker(lambda numbers, step: run.log(numbers, step=step), run.finish)


def _trackio(config: RunConfig, folder: Path, first_step: int) -> Tracker:
    trackio = _package("trackio")
    trackio.init(
        project=config.track.trackio,
        name=f"{folder.name}-{_run_id(folder)}",
        resume="allow",
        config=config.model_dump(mode="json"),
        embed=False,
    )
    return Tracker(lambda numbers, step: trackio.log(numbers, step=step), trackio.finish)


OPENERS: dict[str, Callable[[RunConfig, Path, int], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise SetupError(f"track.{name} needs the package {name}: pip install 'storylm[track]'") from error


def _run_id(folder: Path) -> str:
    """What this run is called elsewhere: made up once, kept in the run folder, so that resuming finds it again.

    Where the file is damaged the run gets another name, with a warning: no reason not to train.
    """
    path = folder / "tracking.json"
    if path.exists():
        try:
            run_id = json.loads(path.read_text(encoding="utf-8"))["id"]
            if isinstance(run_id, str) and run_id:
                return run_id
            problem = f"its id is {run_id!r}"
        except (ValueError, KeyError, TypeError) as error:
            problem = repr(error)
        warnings.warn(f"{path} is damaged ({problem}): the trackers show this run as a new one", stacklevel=2)
    run_id = secrets.token_hex(4)
    write_text(path, json.dumps({"id": run_id}) + "\n")
    return run_id


def _named(prefix: str, numbers: Mapping[str, float | None]) -> Numbers:
    known = {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
    return {f"{prefix}/{name}": value for name, value in known.items()}


def _nothing() -> None:
    """A run that has ended ends no further."""

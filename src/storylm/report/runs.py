"""Runs as they lie in their folders: finished, going on, resumed, or with a last line that a crash cut short."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.names import short_names
from storylm.config.schema import RunConfig
from storylm.model.count import flops_per_token, parameters
from storylm.training.manifest import MANIFEST
from storylm.training.metrics import read_metrics
from storylm.training.run_folder import flat_settings, saved_config
from storylm.training.samples import read_samples

Record = dict[str, Any]
NUMBERS = {
    "step": ("step", "tokens", "seconds"),
    "evaluation": ("step", "tokens", "seconds"),
}


@dataclass(frozen=True)
class Run:
    """What a run folder says. `name` tells it from the others of a report."""

    name: str
    folder: Path
    config: RunConfig
    steps: Sequence[Record]
    passes: Sequence[Record]
    samples: Sequence[tuple[int, str]]
    sessions: Sequence[dict[str, Any]]
    ended: str | None
    """"finished" or "no gain"; None for a run that goes on, or was interrupted."""

    @property
    def newest(self) -> Record:
        """The last record; empty where nothing has been logged."""
        return max((*self.steps[-1:], *self.passes[-1:]), key=lambda record: record["step"], default={})

    @cached_property
    def best(self) -> Record | None:
        """The evaluation with the fewest bits per byte."""
        judged = [record for record in self.passes if isinstance(record.get("bits_per_byte"), int | float)]
        return min(judged, key=lambda record: record["bits_per_byte"], default=None)

    @property
    def parameters(self) -> int:
        return parameters(self.config.model)

    @cached_property
    def flops_per_token(self) -> int:
        return flops_per_token(self.config.model, self.config.row_length)

    @property
    def skipped(self) -> int:
        """Updates left out because they were not finite."""
        return self.steps[-1].get("skipped") or 0 if self.steps else 0

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting, by its name with dots."""
        return flat_settings(self.config)

    def along(self, axis: str) -> Callable[[Record], float]:
        """How far a record is along an axis: "tokens", "seconds" or "FLOPs"."""
        if axis == "FLOPs":
            return lambda record: record["tokens"] * self.flops_per_token
        return lambda record: record[axis]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in `folders`, named by what tells them apart.

    Raises:
        UsageError: no folder, or one twice.
        CheckpointError: a folder holds no run.
    """
    resolved = [folder.resolve() for folder in folders]
    if not folders or len(set(resolved)) < len(resolved):
        raise UsageError("name one or more run folders, each once")
    names = short_names([folder.as_posix() for folder in resolved])
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def _read(folder: Path, name: str) -> Run:
    config = saved_config(folder)
    if config is None:
        raise CheckpointError(f"{folder} holds no run (no config.yaml in it): name a folder that `storylm train` made")
    path = folder / "metrics.jsonl"
    records = [record for record in (read_metrics(path) if path.is_file() else []) if _is_whole(record)]
    of_kind = {kind: [record for record in records if record["kind"] == kind] for kind in NUMBERS}
    return Run(
        name,
        folder,
        config,
        of_kind["step"],
        of_kind["evaluation"],
        read_samples(folder / "samples.md"),
        _json(folder / MANIFEST).get("sessions", []),
        _json(folder / "checkpoints/last/trainer_state.json").get("values", {}).get("state", {}).get("ended"),
    )


def _is_whole(record: Record) -> bool:
    numbers = NUMBERS.get(record["kind"])
    return numbers is not None and all(isinstance(record.get(name), int | float) for name in numbers)


def _json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none, or it is being written or damaged: a report goes without."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""What judging found of a model, for its card: from the JSON of `storylm evaluate` or `storylm leaderboard`.

The file says which weights its figures are of, and those of other weights are not taken: a run's best model may have
been another when it was judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storylm.config.errors import CheckpointError, UsageError
from storylm.model.fingerprint import fingerprint
from storylm.model.folders import read_json
from storylm.model.transformer import Transformer

FILES = ("evaluation.json", "leaderboard.json")  # those that are looked for beside a model


@dataclass(frozen=True)
class Figures:
    """Figures of a model, each with `name`, `value`, `interval`, `direction` and `reference`; by which `stories` they
    are, as the user named them, and how bits per byte were counted."""

    stories: str | None
    convention: str
    measures: Sequence[Mapping[str, Any]]

    @property
    def bits_per_byte(self) -> float | None:
        """None where the model was only asked suites."""
        return next((one["value"] for one in self.measures if one["name"] == "bits_per_byte"), None)


def figures_of(model: Transformer, folders: Sequence[Path], given: Path | None = None) -> Figures | None:
    """The figures of exactly this model, from the file that is given or else from one of `FILES` in the folders.

    Raises:
        UsageError: the file that is given has none of this model.
    """
    if given is None:
        candidates = [path for folder in folders for name in FILES if (path := folder / name).is_file()]
        weights = fingerprint(model) if candidates else ""
        return next((found for path in candidates if (found := _read(path, weights))), None)
    found = _read(given, fingerprint(model))
    if found is None:
        raise UsageError(
            f"{given} has no figures of this model: judge it anew, as in `storylm evaluate MODEL DATA --output {given}`"
        )
    return found


def _read(path: Path, weights: str) -> Figures | None:
    """None where the file is none of ours, or of other weights."""
    try:
        content = read_json(path)
        asked = content.get("asked", content)
        row = next((row for row in content.get("models", [content]) if row.get("weights") == weights), None)
        if row is None:
            return None
        measures = [
            {key: one[key] for key in ("name", "value", "interval", "direction", "reference")} for one in row["metrics"]
        ]
        return Figures(asked.get("data"), content.get("convention", ""), measures)
    except (CheckpointError, KeyError, TypeError, AttributeError):
        return None

"""What a metric is: a figure of each story summed up, or of all stories together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storylm.evaluation.bootstrap import Value, interval, ratio
from storylm.evaluation.measure import Direction, Measure


@dataclass(frozen=True)
class Told:
    """A story: what it began with, "" where nothing was given, and what was told. Metrics judge what was told."""

    beginning: str
    told: str
    cut: bool | None = None
    """Whether it was stopped for its length, rather than ended; None where that is not known."""

    @property
    def text(self) -> str:
        return self.beginning + self.told

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return {"prompt": self.beginning, "told": self.told, "cut": self.cut}


@dataclass(frozen=True)
class StoryMetric:
    """A figure made of sums over stories, such as a mean: so it has an interval.

    `sums` is what one story adds; `value` turns all sums into the figure (by default the first by the second).
    """

    name: str
    direction: Direction
    sums: Callable[[Told], Sequence[float]]
    value: Value = ratio

    def measure(self, stories: Sequence[Told], reference: Sequence[Told] | None, seed: int = 0) -> Measure:
        """The figure of `stories`, with that of `reference` beside it."""
        return summed(
            self.name,
            self.direction,
            np.array([self.sums(story) for story in stories], np.float64),
            None if not reference else np.array([self.sums(story) for story in reference], np.float64),
            self.value,
            seed,
        )


@dataclass(frozen=True)
class CorpusMetric:
    """A figure that stories have together, of a fixed amount of text; None where there is less."""

    name: str
    direction: Direction
    value: Callable[[Sequence[Told]], float | None]

    def measure(self, stories: Sequence[Told], reference: Sequence[Told] | None, seed: int = 0) -> Measure:
        """The figure of `stories`, with that of `reference` beside it."""
        return Measure(
            self.name, self.value(stories), self.direction, None, self.value(reference) if reference else None
        )


Metric = StoryMetric | CorpusMetric


def summed(
    name: str,
    direction: Direction,
    sums_SC: np.ndarray,
    reference_SC: np.ndarray | None = None,
    value: Value = ratio,
    seed: int = 0,
) -> Measure:
    """A measure of what each story adds to some sums; None where there is nothing to divide by."""

    def figure(sums: np.ndarray) -> float | None:
        if not len(sums):
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            found = float(value(sums.sum(axis=0)))
        return found if np.isfinite(found) else None

    found = figure(sums_SC)
    around = None if found is None else interval(sums_SC, value, seed)
    return Measure(name, found, direction, around, None if reference_SC is None else figure(reference_SC))

"""Where the points of a sweep come from: a list of them; `search` has those that are chosen on the way."""

from typing import Protocol

from storylm.config.errors import UsageError
from storylm.training.sweep.grid import Point, check_stories
from storylm.training.sweep.outcome import Outcome


class Source(Protocol):
    """Where points come from: a list, or a search that learns from what it is told. `total`: how many there will be."""

    total: int

    def ask(self) -> Point | None:
        """The next point to run; None if there is none, for now at least."""
        ...

    def tell(self, point: Point, outcome: Outcome) -> None:
        """A point is done."""
        ...


class Listed:
    """Points of a list, each once. All are looked at first, so that a mistake in one shows before any runs.

    Raises `UsageError` where two have one name, or settings cannot be; `DataError` for stories that there are not.
    """

    def __init__(self, points: list[Point]):
        names = [point.name for point in points]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"two runs of the sweep are {twice[0]!r}: name each value once")
        for point in points:
            data = point.config.data  # raises
            check_stories({"data.source": [data.source], "data.validation": [data.validation or ""]})
        self._left, self.total = iter(points), len(points)

    def ask(self) -> Point | None:
        return next(self._left, None)

    def tell(self, point: Point, outcome: Outcome) -> None:
        pass

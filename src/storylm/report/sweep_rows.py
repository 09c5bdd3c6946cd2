"""The runs of a sweep, and which of them may be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storylm.report.compare import judged_alike
from storylm.report.runs import Run


@dataclass(frozen=True)
class Row:
    """A run of a sweep: what tells it from the others, how it ended, and what is in its folder (None: nothing yet)."""

    name: str
    varied: Mapping[str, str]
    ended: str
    run: Run | None
    why: str = ""

    @property
    def figure(self) -> float | None:
        """Its fewest bits per byte."""
        return self.run.best["bits_per_byte"] if self.run and self.run.best else None

    @property
    def counts(self) -> bool:
        """Whether it may be the best: a figure from before a run diverged or failed is not one to repeat."""
        return self.figure is not None and self.ended not in ("diverged", "failed")


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The best first; behind them those that diverged or failed, and last those without a figure."""
    return sorted(rows, key=lambda row: (not row.counts, row.figure is None, row.figure or 0.0))


def warning(rows: Sequence[Row]) -> str:
    """What is to be known before figures are compared; empty where all were judged alike."""
    if judged_alike([row.run for row in rows if row.run and row.counts]):
        return ""
    return "Beware: these runs were not judged by the same stories, so their figures do not compare to the digit."

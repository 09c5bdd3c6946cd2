"""Who is best by bits per byte, and whether the others are surely behind."""

from collections.abc import Sequence
from dataclasses import dataclass

from storylm.evaluation.bootstrap import Paired
from storylm.evaluation.leaderboard.examine import Findings
from storylm.evaluation.per_story import compare

SURE = 0.05  # a difference is sure where chance makes one as large less often than this


@dataclass(frozen=True)
class Entry:
    """A model of a leaderboard. `name` is how the user named it, `short` what tells it from the others; `weights` and
    `tokenizer` are fingerprints."""

    name: str
    short: str
    weights: str
    tokenizer: str
    findings: Findings


@dataclass(frozen=True)
class Place:
    """An entry in its place, and how it compares with the best one on the same stories: None for that itself."""

    entry: Entry
    against_best: Paired | None

    @property
    def surely_behind(self) -> bool:
        """Not if chance may have made the difference to the best."""
        return self.against_best is not None and self.against_best.p_value < SURE


def ranked(entries: Sequence[Entry], seed: int = 0) -> list[Place]:
    """The fewest bits per byte first, each of the others tested against the best (`bootstrap.paired_test`)."""
    best, *others = sorted(entries, key=lambda entry: entry.findings.figure)
    return [Place(best, None), *(Place(entry, compare(entry.findings, best.findings, seed)) for entry in others)]

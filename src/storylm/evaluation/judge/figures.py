"""What a judge's grades amount to: means, with intervals over beginnings, because what is told from one is alike."""

# P beginnings, each with the sum and the number of its grades

from collections import Counter
from collections.abc import Sequence

import numpy as np

from storylm.evaluation.bootstrap import interval
from storylm.evaluation.judge.rubric import AGE_GROUPS, ASPECTS, Grades
from storylm.evaluation.measure import Direction, Measure
from storylm.evaluation.text.metric import Told


def mean_by_beginning(
    name: str,
    stories: Sequence[Told],
    values: Sequence[float | None],
    seed: int = 0,
    direction: Direction = "higher",
) -> Measure:
    """The mean over stories that have a value, with the interval of a cluster bootstrap (Cameron et al. 2008).

    Beginnings are drawn, with all their stories; a story without a beginning is a cluster of its own.
    """
    groups: dict[str, list[float]] = {}
    for number, (story, value) in enumerate(zip(stories, values, strict=True)):
        if value is not None:
            groups.setdefault(story.beginning or f"\0{number}", []).append(value)
    if not groups:
        return Measure(name, None, direction)
    sums_P2 = np.array([[sum(group), len(group)] for group in groups.values()], np.float64)
    total, count = sums_P2.sum(axis=0)
    return Measure(name, float(total / count), direction, interval(sums_P2, seed=seed))


def measures(stories: Sequence[Told], grades: Sequence[Grades | None], seed: int = 0) -> list[Measure]:
    """The mean of each aspect."""
    return [
        mean_by_beginning(
            aspect, stories, [None if one is None else float(getattr(one, aspect)) for one in grades], seed
        )
        for aspect in ASPECTS
    ]


def age_groups(grades: Sequence[Grades | None]) -> dict[str, int]:
    """How many stories were put into each age group."""
    counted = Counter(one.age_group for one in grades if one is not None)
    return {letter: counted[letter] for letter in AGE_GROUPS}

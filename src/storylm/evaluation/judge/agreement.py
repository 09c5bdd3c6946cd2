"""Do two judges agree? Weighted kappa, which wants the same grades, and rank correlation, which wants the same order.

A judge that gives every story two points more than another ranks all stories alike (correlation 1) and still does
not agree.
"""

# S stories, G grades that there can be

from collections.abc import Sequence

import numpy as np

from storylm.evaluation.judge.rubric import ASPECTS, HIGHEST, LOWEST, Grades
from storylm.evaluation.measure import Measure


def weighted_kappa(first: Sequence[int], second: Sequence[int]) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 for the same grades, 0 for what chance gives.

    NaN where both give one and the same grade always: then there is nothing to agree on.

    >>> weighted_kappa([1, 5, 9], [1, 5, 9]), round(weighted_kappa([1, 5, 9], [3, 7, 10]), 3)
    (1.0, 0.88)
    """
    scale = np.arange(HIGHEST - LOWEST + 1)
    apart_GG = (scale[:, None] - scale[None]) ** 2
    together_GG = np.zeros(apart_GG.shape)
    np.add.at(together_GG, (np.array(first) - LOWEST, np.array(second) - LOWEST), 1 / len(first))
    by_chance_GG = together_GG.sum(axis=1)[:, None] * together_GG.sum(axis=0)[None]
    expected = (apart_GG * by_chance_GG).sum()
    return float(1 - (apart_GG * together_GG).sum() / expected) if expected else float("nan")


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's (1904): the correlation of ranks, those of equal values being their mean. NaN where all are equal.

    >>> rank_correlation([1, 5, 9], [2, 3, 40])
    1.0
    """
    x_S, y_S = (of_one - of_one.mean() for of_one in (ranks(first), ranks(second)))
    spread = float(np.sqrt((x_S**2).sum() * (y_S**2).sum()))
    return float((x_S * y_S).sum()) / spread if spread else float("nan")


def agreement(first: Sequence[Grades | None], second: Sequence[Grades | None]) -> list[Measure]:
    """Both figures of each aspect, over the stories that both have graded; [] where those are fewer than two."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(both) < 2:
        return []
    measures = []
    for aspect in ASPECTS:
        pair = [getattr(a, aspect) for a, _ in both], [getattr(b, aspect) for _, b in both]
        measures.append(Measure(f"{aspect}_weighted_kappa", weighted_kappa(*pair), "higher"))
        measures.append(Measure(f"{aspect}_rank_correlation", rank_correlation(*pair), "higher"))
    return measures


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """From 1 for the lowest; equal values share the mean of theirs.

    >>> ranks([5, 2, 5]).tolist()
    [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]

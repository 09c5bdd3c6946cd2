"""How good a score is that is to be high for what is damaged: told apart from the sound, and in order of how badly."""

from collections.abc import Sequence

import numpy as np

from storylm.evaluation.judge.agreement import ranks
from storylm.evaluation.judge.examples import Example


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has a higher score than another, ties counting half (Hanley and McNeil 1982).

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return float("nan")
    return float((ranks(scores)[positive].sum() - many * (many + 1) / 2) / (many * few))


def in_order(scores: np.ndarray, examples: Sequence[Example]) -> float:
    """Of all pairs of different amounts of damage to one story, the share whose scores are in order; ties count half.

    The sound story is no part of a pair: to tell it from damaged ones is what `auc` is about. NaN without pairs.
    """
    by_story: dict[tuple[int, str | None], list[tuple[float, float]]] = {}
    for score, one in zip(scores.tolist(), examples, strict=True):
        if one.kind is not None:
            by_story.setdefault((one.source, one.kind), []).append((one.severity, score))
    right = total = 0.0
    for versions in by_story.values():
        for less, low in versions:
            for more, high in versions:
                if less < more:
                    right += 1.0 if low < high else 0.5 if low == high else 0.0
                    total += 1
    return right / total if total else float("nan")

"""Agreement of judges, held against scipy and a table worked by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from storylm.evaluation.judge.agreement import agreement, rank_correlation, weighted_kappa
from storylm.evaluation.judge.rubric import ASPECTS, Grades


def test_rank_correlation_is_scipys_ties_and_all():
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.integers(1, 6, (2, 30))
        assert rank_correlation(a.tolist(), b.tolist()) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_weighted_kappa_by_hand():
    # 1 - sum of squared distances / the sum that independence gives: 4 pairs, one of them 2 apart.
    first, second = [1, 3, 5, 5], [1, 3, 5, 3]
    observed = 4 / 4
    expected = np.mean([(a - b) ** 2 for a in first for b in second])
    assert weighted_kappa(first, second) == pytest.approx(1 - observed / expected)


def test_chance_is_nought_the_same_one_and_the_reverse_below():
    a, b = np.random.default_rng(1).integers(1, 11, (2, 4000))
    assert abs(weighted_kappa(a.tolist(), b.tolist())) < 0.05
    assert weighted_kappa(a.tolist(), a.tolist()) == 1
    assert weighted_kappa(a.tolist(), (11 - a).tolist()) < -0.9
    shifted = np.minimum(10, a[a < 9] + 2)
    assert rank_correlation(a[a < 9].tolist(), shifted.tolist()) == pytest.approx(1)
    assert weighted_kappa(a[a < 9].tolist(), shifted.tolist()) < 0.8  # the same order, and yet other grades
    assert math.isnan(weighted_kappa([5, 5], [5, 5]))


def test_only_stories_that_both_graded_count():
    mine = [Grades(1, 2, 3, 4, "A"), None, Grades(9, 8, 7, 6, "B"), Grades(2, 2, 2, 2, "C")]
    yours = [Grades(1, 2, 3, 4, "A"), Grades(5, 5, 5, 5, "A"), Grades(9, 8, 7, 6, "B"), None]
    found = {one.name: one.value for one in agreement(mine, yours)}
    assert len(found) == 2 * len(ASPECTS)
    assert list(found.values()) == pytest.approx([1] * 8)
    assert agreement(mine[:2], yours[:2]) == []

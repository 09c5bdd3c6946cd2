"""Intervals hold what they should as often as they say, and the paired test is the exact one."""

import itertools
import math

import numpy as np
import pytest

from storylm.config.errors import DataError
from storylm.evaluation.bootstrap import counted, interval, paired_test, wilson


def test_an_interval_holds_the_true_ratio_95_times_in_a_hundred() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for run in range(300):
        sizes = generator.integers(50, 500, 120).astype(float)
        sums = np.stack([sizes * generator.normal(0.9, 0.2, 120), sizes], axis=1)  # the ratio is 0.9
        low, high = interval(sums, seed=run, repetitions=400)
        held += low <= 0.9 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_an_interval_is_that_of_the_textbook_where_there_is_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 500)
    low, high = interval(np.stack([values, np.ones(500)], axis=1), repetitions=4000)
    half = 1.96 * values.std() / math.sqrt(500)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_an_interval_is_the_same_for_the_same_seed_however_it_is_shared_out(monkeypatch) -> None:
    sums = np.random.default_rng(0).random((50, 2)) + 1
    whole = interval(sums, seed=3)
    assert whole == interval(sums, seed=3) != interval(sums, seed=4)
    monkeypatch.setattr("storylm.evaluation.bootstrap._AT_ONCE", 700)
    assert interval(sums, seed=3) == whole


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_compared(value) -> None:
    nats, size = np.linspace(50, 150, 40), np.full(40, 100)
    for pair in ((nats, np.where(nats > 149, value, nats)), (np.where(nats > 149, value, nats), nats)):
        with pytest.raises(DataError, match="not numbers"):
            paired_test(*pair, size)


def test_what_is_never_divided_by_something_has_no_interval() -> None:
    assert interval(np.zeros((5, 2))) is None


def test_one_story_has_no_interval() -> None:
    assert interval(np.array([[3.0, 4.0]])) is None
    assert interval(np.array([[3.0, 4.0], [1.0, 4.0]])) is not None
    assert paired_test(np.array([3.0]), np.array([2.0]), np.array([4])).interval is None


def test_a_share_of_what_comes_in_groups_is_held_95_times_in_a_hundred() -> None:
    """Three wishes of a story that are all met or all not; as if independent, the interval would hold it 75 times."""
    generator, held, naive = np.random.default_rng(4), 0, 0
    for run in range(300):
        met = 3 * (generator.random(40) < 0.6)
        low, high = counted("met", np.stack([met, np.full(40, 3)], axis=1), seed=run).interval
        held += low <= 0.6 <= high
        naive += wilson(met.sum(), 120)[0] <= 0.6 <= wilson(met.sum(), 120)[1]
    assert 0.90 <= held / 300 <= 0.98
    assert naive / 300 < 0.85


def test_a_share_that_all_groups_have_is_not_certain() -> None:
    found = counted("right", np.array([[4, 4]] * 16), reference=0.25)
    assert (found.value, found.reference) == (1, 0.25)
    assert found.interval == pytest.approx(wilson(16, 16))
    assert counted("right", np.array([[1, 4]] * 16)).interval == pytest.approx(wilson(4, 16))


def test_the_p_value_is_that_of_every_exchange() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.normal(100, 10, 10), generator.normal(94, 10, 10)
    difference = first - second
    sums = [abs((np.array(signs) * difference).sum()) for signs in itertools.product((-1, 1), repeat=10)]
    exact = np.mean([total >= abs(difference.sum()) - 1e-9 for total in sums])
    assert 0.02 < exact < 0.9
    found = paired_test(first, second, np.full(10, 50.0), repetitions=40_000)
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found.difference == pytest.approx(difference.sum() / math.log(2) / 500)
    assert found.interval[0] < found.difference < found.interval[1]


def test_a_small_difference_is_found_where_stories_differ_much_more() -> None:
    generator = np.random.default_rng(0)
    nats = generator.normal(300, 100, 200)
    better = nats - generator.normal(2, 4, 200)
    sizes = np.full(200, 400)
    assert paired_test(better, nats, sizes).p_value < 0.001
    assert paired_test(better, nats, sizes).interval[1] < 0
    apart = paired_test(better, generator.permutation(nats), sizes)  # not the same stories
    assert apart.p_value > 0.05


def test_the_same_model_twice_does_not_differ() -> None:
    nats = np.arange(1.0, 30)
    found = paired_test(nats, nats, np.full(29, 10))
    assert (found.difference, found.p_value, found.interval) == (0.0, 1.0, (0.0, 0.0))


def test_p_values_are_even_where_nothing_differs() -> None:
    generator = np.random.default_rng(5)
    values = [
        paired_test(*generator.normal(100, 10, (2, 30)), np.full(30, 100), seed=run, repetitions=199).p_value
        for run in range(200)
    ]
    assert 0.02 <= np.mean(np.array(values) <= 0.05) <= 0.09
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("right", "of", "expected"),
    # Values of Newcombe (1998), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (29, 29, (0.8830, 1.0))],
)
def test_wilson_intervals_are_the_published_ones(right, of, expected) -> None:
    assert wilson(right, of) == pytest.approx(expected, abs=1e-4)

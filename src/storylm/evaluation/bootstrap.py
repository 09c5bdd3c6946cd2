"""How sure a figure is, from how much stories differ: intervals, and a test of two models on the same stories.

Stories are the unit, as their tokens are not independent. An interval is the percentile bootstrap's (Efron 1979):
stories are drawn with replacement, as many as there are, and the figure is computed anew from their sums.
"""

# S stories, C sums that a figure is made of, G groups, R repetitions

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from storylm.config.errors import DataError
from storylm.evaluation.measure import Interval, Measure

REPETITIONS = 2000
LEVEL = 0.95
_AT_ONCE = 2**24  # weights in memory at a time

Value = Callable[[np.ndarray], np.ndarray]
"""From sums [..., C] to a figure [...]."""


def ratio(sums_RC: np.ndarray) -> np.ndarray:
    """The first sum by the second: a mean."""
    return sums_RC[..., 0] / sums_RC[..., 1]


def interval(
    sums_SC: np.ndarray, value: Value = ratio, seed: int = 0, repetitions: int = REPETITIONS
) -> Interval | None:
    """Where 95 % of the figures of resampled stories lie. `sums_SC` is what each story adds to the sums.

    None for fewer than two stories, and where there is nothing to divide by.

    >>> low, high = interval(np.array([[1.0, 1], [0, 1], [1, 1], [0, 1]] * 100))
    >>> round(low, 2), round(high, 2)
    (0.45, 0.55)
    """
    stories, generator = len(sums_SC), np.random.default_rng(seed)
    if stories < 2:
        return None
    figures = []
    for some in _shares(repetitions, stories):
        weights_RS = generator.multinomial(stories, np.full(stories, 1 / stories), size=some)
        with np.errstate(divide="ignore", invalid="ignore"):
            figures.append(value(weights_RS @ sums_SC))
    found_R = np.concatenate(figures)
    found_R = found_R[np.isfinite(found_R)]  # a draw of stories that have none of what is divided by says nothing
    if not len(found_R):
        return None
    low, high = np.quantile(found_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """Whether two models differ in bits per byte on the same stories.

    `difference` is the first model's figure less the second's, so below 0 the first is better; `interval` its 95 %
    by resampling stories, both models' figures of a story together (Koehn 2004); `p_value` the probability of a
    difference at least so large if it did not matter which model scored which story, by exchanging the two at
    random (Fisher's randomisation test, as in Noreen 1989).
    """

    difference: float
    interval: Interval | None
    p_value: float
    stories: int

    def measure(self, name: str) -> Measure:
        """The difference as a figure among others."""
        return Measure(name, self.difference, "lower", self.interval, 0.0)


def paired_test(
    first_S: np.ndarray, second_S: np.ndarray, bytes_S: np.ndarray, seed: int = 0, repetitions: int = 9999
) -> Paired:
    """Compare the nats of two models, story by story; `bytes_S` is what both scored of each.

    >>> nats = np.linspace(50, 150, 40)
    >>> found = paired_test(nats, nats + 5, np.full(40, 100))
    >>> round(found.difference, 3), found.p_value
    (-0.072, 0.0001)

    Raises:
        DataError: nats that are no numbers, which nothing can be said about.
    """
    if not (np.isfinite(first_S).all() and np.isfinite(second_S).all()):
        raise DataError("a model's predictions of some stories are not numbers: there is nothing to compare")
    bits_S = (first_S - second_S) / math.log(2)
    total = bits_S.sum()
    generator, as_large = np.random.default_rng(seed), 0
    for some in _shares(repetitions, len(bits_S)):
        signs_RS = generator.integers(0, 2, (some, len(bits_S)), dtype=np.int8) * 2.0 - 1
        as_large += int((np.abs(signs_RS @ bits_S) >= abs(total) * (1 - 1e-12)).sum())
    return Paired(
        float(total / bytes_S.sum()),
        interval(np.stack([bits_S, bytes_S], axis=1), seed=seed),
        (1 + as_large) / (1 + repetitions),
        len(bits_S),
    )


def _shares(repetitions: int, stories: int) -> Iterator[int]:
    """Repetitions in portions that memory holds."""
    size = max(1, _AT_ONCE // max(1, stories))
    for first in range(0, repetitions, size):
        yield min(size, repetitions - first)


def wilson(right: float, of: int) -> Interval:
    """95 % of a share that was counted (Wilson 1927): sound also for few and at the ends.

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    z, share = 1.959964, right / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def counted(name: str, counts_G2: np.ndarray, reference: float | None = None, seed: int = 0) -> Measure:
    """The share of what is right: of each group, how many are and how many there are.

    What is in one group is alike (items with the same continuations, wishes about one story), so groups are drawn for
    the interval (Cameron, Gelbach and Miller 2008). Where each has the same share, as where all is right, drawing says
    nothing: there it is Wilson's, of as many as there are groups.

    >>> low, high = counted("right", np.array([[4, 4]] * 16)).interval
    >>> round(float(low), 2), round(float(high), 2)
    (0.81, 1.0)
    """
    right, of = counts_G2.sum(axis=0)
    differ = np.ptp(ratio(counts_G2)) > 0
    around = interval(counts_G2, seed=seed) if differ else wilson(len(counts_G2) * right / of, len(counts_G2))
    return Measure(name, float(right / of), "higher", around, reference)

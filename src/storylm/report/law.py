"""The law fitted to losses: E + A / N^a + B / D^b, with N parameters and D tokens (Hoffmann et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from storylm.config.errors import SetupError, UsageError

Losses = Sequence[tuple[float, float, float]]
"""Parameters, tokens, loss."""
FEWEST = 6  # losses: one more than numbers that are fitted
ALONG = 0.99  # correlation of the logarithms of size and tokens from which nothing tells what is due to which
LEAST = 1e-3  # of the lowest loss: what falls by less from one end to the other does not fall
LARGEST = 5.0  # exponent: what is beyond it is a term that is there for one size, or number of tokens, alone


@dataclass(frozen=True)
class Law:
    """`floor` is E. A loss is in the unit of those it was fitted to."""

    floor: float
    a_scale: float
    a: float
    b_scale: float
    b: float

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """The loss it says; of arrays, an array.

        >>> Law(0.5, 10.0, 0.5, 100.0, 0.5).loss(100.0, 10_000.0)
        2.5
        """
        return self.floor + self.a_scale / parameters**self.a + self.b_scale / tokens**self.b


def fit(losses: Losses, floor: float | None = None) -> tuple[Law, float]:
    """The law nearest to the losses, by squared differences of logarithms; and their RMS.

    Neither exponent is below 0: a law has no loss that rises with size or tokens. A `floor` that is known is kept.
    Starts from several places, since the surface has more than one valley.

    Raises:
        SetupError: there is no scipy.
        UsageError: too few losses; of models all of one size, or all after as many tokens; or size and tokens rise
            together, as where each model saw twenty tokens a parameter; losses that do not fall with one of them.
    """
    sizes, seen = {row[0] for row in losses}, {row[1] for row in losses}
    if len(losses) < FEWEST or len(sizes) < 2 or len(seen) < 2:
        raise UsageError(
            f"a law of size and tokens wants {FEWEST} runs or more, of several sizes and after several numbers of "
            f"tokens: here are {len(losses)}, of {len(sizes)} sizes, after {len(seen)} numbers of tokens"
        )
    logs = np.log([row[:2] for row in losses])
    together = np.corrcoef(logs, rowvar=False)[0, 1]
    if abs(together) > ALONG:
        raise UsageError(
            "size and tokens of these runs rise or fall together, so nothing says which of them a loss is due to: add "
            "runs of one size after other numbers of tokens"
        )
    law, error = _nearest(losses, floor)
    lowest = min(row[2] for row in losses)
    for what, values, scale, exponent in (("size", sizes, law.a_scale, law.a), ("tokens", seen, law.b_scale, law.b)):
        if scale * (min(values) ** -exponent - max(values) ** -exponent) < LEAST * lowest:
            raise UsageError(f"these losses do not fall with {what}, so there is no law of it: see what went wrong")
    return law, error


def ranges(losses: Losses, floor: float | None = None) -> dict[str, tuple[float, float]]:
    """How sure a fit is: what the floor and the exponents become where any one of the losses is left out."""
    without = [_nearest([*losses[:number], *losses[number + 1 :]], floor)[0] for number in range(len(losses))]
    values = {key: [getattr(law, key) for law in without] for key in ("floor", "a", "b")}
    return {key: (min(of), max(of)) for key, of in values.items()}


def _nearest(losses: Losses, floor: float | None) -> tuple[Law, float]:
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise SetupError("fitting a law needs scipy: pip install 'storylm[report]'") from error

    parameters, tokens, loss = (np.array(column) for column in zip(*losses, strict=True))
    # Scales are those at the mean, so that they hardly depend on the exponents.
    log_n, log_d = np.log(parameters), np.log(tokens)

    def law(values: np.ndarray) -> Law:
        """From five numbers that may be anything: scales are above 0, exponents from 0 to `LARGEST`."""
        e, log_a, log_b = values[:3]
        a, b = LARGEST / (1 + np.exp(-values[3:]))
        lowest = np.exp(e) if floor is None else floor
        scales = np.exp(log_a + a * log_n.mean()), np.exp(log_b + b * log_d.mean())
        return Law(*map(float, (lowest, scales[0], a, scales[1], b)))

    def differences(values: np.ndarray) -> np.ndarray:
        return np.log(law(values).loss(parameters, tokens)) - np.log(loss)

    starts = [
        [np.log(share * loss.min()), np.log(0.3), np.log(0.3), np.log(a / (LARGEST - a)), np.log(b / (LARGEST - b))]
        for a, b, share in product((0.2, 0.5), (0.2, 0.5), (0.3, 0.7))
    ]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what is tried on the way
        tried = [least_squares(differences, start, method="lm", max_nfev=2000) for start in starts]
    best = min(tried, key=lambda found: found.cost)
    return law(best.x), float(np.sqrt(np.square(best.fun).mean()))

"""The law fitted to losses: E + A / N^a + B / D^b, with N parameters and D tokens (Hoffmann et al. 2022)."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from storylm.config.errors import SetupError, UsageError

FREE = 5  # numbers that are fitted: as many losses at least


@dataclass(frozen=True)
class Law:
    """`floor` is E. A loss is in the unit of those it was fitted to."""

    floor: float
    a_scale: float
    a: float
    b_scale: float
    b: float

    def loss(self, parameters: float, tokens: float) -> float:
        """The loss it says.

        >>> Law(0.5, 10.0, 0.5, 100.0, 0.5).loss(100.0, 10_000.0)
        2.5
        """
        return self.floor + self.a_scale / parameters**self.a + self.b_scale / tokens**self.b


def fit(losses: list[tuple[float, float, float]], floor: float | None = None) -> tuple[Law, float]:
    """The law nearest to (parameters, tokens, loss), by squared differences of logarithms; and their RMS.

    A `floor` that is known is kept. Starts from several places, since the surface has more than one valley.

    Raises:
        SetupError: there is no scipy.
        UsageError: too few losses, or of models all of one size or all after as many tokens.
    """
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise SetupError("fitting a law needs scipy: pip install 'storylm[report]'") from error

    sizes, seen = {row[0] for row in losses}, {row[1] for row in losses}
    if len(losses) < FREE or len(sizes) < 2 or len(seen) < 2:
        raise UsageError(
            f"a law of size and tokens wants {FREE} runs or more, of several sizes and after several numbers of "
            f"tokens: here are {len(losses)}, of {len(sizes)} sizes, after {len(seen)} numbers of tokens"
        )
    parameters, tokens, loss = (np.array(column) for column in zip(*losses, strict=True))
    log_n, log_d = np.log(parameters), np.log(tokens)

    def differences(values: np.ndarray) -> np.ndarray:
        e, log_a, a, log_b, b = values
        lowest = np.exp(e) if floor is None else floor
        return np.log(lowest + np.exp(log_a - a * log_n) + np.exp(log_b - b * log_d)) - np.log(loss)

    starts = [
        [np.log(share * loss.min()), np.log(0.3) + a * log_n.mean(), a, np.log(0.3) + b * log_d.mean(), b]
        for a, b, share in product((0.2, 0.5), (0.2, 0.5), (0.3, 0.7))
    ]
    best = min((least_squares(differences, start, max_nfev=5000) for start in starts), key=lambda found: found.cost)
    e, log_a, a, log_b, b = best.x.tolist()
    law = Law(float(np.exp(e)) if floor is None else floor, float(np.exp(log_a)), a, float(np.exp(log_b)), b)
    return law, float(np.sqrt(np.square(best.fun).mean()))

"""The law fitted to losses: E + A / N^a + B / D^b, with N parameters and D tokens (Hoffmann et al. 2022)."""

from dataclasses import dataclass

import numpy as np
import torch


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
    """
    parameters, tokens, loss = (torch.tensor(column, dtype=torch.float64) for column in zip(*losses, strict=True))
    best: tuple[float, torch.Tensor] | None = None
    for a in (0.2, 0.5):
        for b in (0.2, 0.5):
            for share in (0.3, 0.7):
                start = [np.log(share * min(column[2] for column in losses))]
                start += [np.log(0.3) + a * float(parameters.log().mean()), a]
                start += [np.log(0.3) + b * float(tokens.log().mean()), b]
                found = _descend(torch.tensor(start, dtype=torch.float64), parameters.log(), tokens.log(), loss, floor)
                if np.isfinite(found[0]) and (best is None or found[0] < best[0]):
                    best = found
    assert best is not None
    error, values = best
    e, log_a, a, log_b, b = values.tolist()
    law = Law(float(np.exp(e)) if floor is None else floor, float(np.exp(log_a)), a, float(np.exp(log_b)), b)
    return law, float(np.sqrt(error))


def _descend(
    start: torch.Tensor, log_n: torch.Tensor, log_d: torch.Tensor, loss: torch.Tensor, floor: float | None
) -> tuple[float, torch.Tensor]:
    values = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [values], max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14
    )

    def error() -> torch.Tensor:
        e, log_a, a, log_b, b = values
        lowest = e.exp() if floor is None else torch.tensor(floor, dtype=torch.float64)
        said = lowest + (log_a - a * log_n).exp() + (log_b - b * log_d).exp()
        return (said.log() - loss.log()).square().mean()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = error()
        value.backward()
        return value

    optimizer.step(closure)
    return float(error().detach()), values.detach()

"""Dropout whose randomness is an argument where this package's own kernels work."""

import torch
from torch import Tensor
from torch.nn import functional as F

from storylm.model import native
from storylm.model.native.dropout import drop


def dropout(x: Tensor, rate: float, seed: Tensor | None) -> Tensor:
    """`x` with a share of `rate` set to 0 and the rest divided by 1 - rate.

    `seed` (int64, a scalar, not negative) decides which; None: torch's generator of the device does.
    """
    if rate == 0:
        return x
    if seed is None or x.dtype not in native.DTYPES:
        return F.dropout(x, rate)
    return drop(x, rate, seed)


def draw_seeds(rate: float, count: int, device: torch.device) -> list[Tensor | None]:
    """Seeds for so many calls of `dropout`, from torch's generator; None where they need none.

    Drawn in one place, outside of what is compiled, so that they are the same whether it is or not.
    """
    if rate == 0 or not native.available(device):
        return [None] * count
    return list(torch.randint(2**62, (count,)).unbind())

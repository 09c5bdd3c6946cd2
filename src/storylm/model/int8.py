"""Weights in eight bits: a whole number from -127 to 127 for each, and a scale for each output of a matrix."""

# N outputs, M inputs

import torch
from torch import Tensor


def int8_rows(weight_NM: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as int8 [N, M] and their scales [N] in fp32: the largest number of a row becomes 127 or -127.

    Quantising what `from_int8` makes of them gives the same numbers again.

    >>> int8_rows(torch.tensor([[1.0, -2.0, 0.3]]))
    (tensor([[  64, -127,   19]], dtype=torch.int8), tensor([0.0157]))
    """
    scales_N = weight_NM.float().abs().amax(1) / 127
    inverse_N1 = (1 / scales_N.clamp_min(1e-30))[:, None]
    return (weight_NM.float() * inverse_N1).round().clamp(-127, 127).to(torch.int8), scales_N


def from_int8(numbers_NM: Tensor, scales_N: Tensor) -> Tensor:
    """The weights [N, M] that the numbers stand for, in fp32."""
    return numbers_NM.float() * scales_N[:, None]

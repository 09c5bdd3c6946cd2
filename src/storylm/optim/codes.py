"""Numbers as 8-bit codes with one scale a block: dynamic tree quantisation (Dettmers 2015; Dettmers et al. 2022)."""

from functools import cache

import torch
from torch import Tensor

# R rows, W width of a row, N blocks of a row


def dequantise(codes_RW: Tensor, scale_RN: Tensor, signed: bool) -> Tensor:
    """What `quantise` wrote, in fp32."""
    levels, _ = _tables(signed, codes_RW.device)
    values = levels.index_select(0, codes_RW.flatten().int()).view(codes_RW.shape)
    _blocks(values, scale_RN).mul_(scale_RN[..., None])
    return values


def quantise(values_RW: Tensor, codes_RW: Tensor, scale_RN: Tensor, signed: bool) -> None:
    """Write each value's code, in uint8, and each block's scale, in fp32: its largest magnitude."""
    _, codes = _tables(signed, values_RW.device)
    blocks = _blocks(values_RW, scale_RN)
    torch.amax(blocks.abs(), dim=-1, out=scale_RN)
    shares = blocks / scale_RN.clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    bits = shares.bfloat16().view(torch.int16).flatten().int().add_(2**15)
    codes_RW.copy_(codes.index_select(0, bits).view(codes_RW.shape))


def _blocks(values_RW: Tensor, scale_RN: Tensor) -> Tensor:
    """A view of the blocks, [R, N, block]."""
    return values_RW.unflatten(1, (scale_RN.shape[1], values_RW.shape[1] // scale_RN.shape[1]))


@cache
def _tables(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The value of each code, [256], and the nearest code of each bf16 number, [65536], in the order of its bits.

    Rounding to bf16 first makes a table of all numbers possible. It moves a number by 1/512 of itself at most; levels
    are more than three times as far apart, but for the two at the top.
    """
    levels = torch.tensor(_dynamic_levels(signed))
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    codes = torch.bucketize(numbers, (levels[:-1] + levels[1:]) / 2, right=True).to(torch.uint8)
    return levels.to(device), codes.to(device)


def _dynamic_levels(signed: bool) -> list[float]:
    """256 numbers in [-1, 1], or [0, 1]: seven powers of ten, each finer than the one below (Dettmers 2015)."""
    levels = [0.0, 1.0]
    for exponent in range(7):
        count = 2**exponent if signed else 2 ** (exponent + 1)
        values = [10.0 ** (exponent - 6) * (0.1 + 0.9 * (i + 0.5) / count) for i in range(count)]
        levels += values + [-value for value in values if signed]
    return sorted(levels)

"""`choose.cpp`: the next tokens of rows of scores in fp32 on a CPU."""

# B rows, V vocabulary

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from storylm.generation.native import kernels

if TYPE_CHECKING:
    from storylm.generation.sampling import Sampling


class _Row(ctypes.Structure):
    """`Row` of choose.cpp, field by field."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("top_k", ctypes.c_int64),
        ("temperature", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
    )


def choose(
    logits_BV: Tensor, samplings: "Sequence[Sampling]", seeds: Sequence[int], counts: Sequence[int], threads: int
) -> Tensor:
    """`sampling.choose`; ask `kernels` before.

    The `threads` are best those of the passes between: OpenMP ends and starts some wherever another number works.
    """
    found = kernels()
    assert found is not None
    assert logits_BV.stride(1) == 1
    vocabulary, tokens_B = logits_BV.shape[1], torch.empty(len(logits_BV), dtype=torch.int64)
    rows = (_Row * len(logits_BV))()
    for row, own, seed, count in zip(rows, samplings, seeds, counts, strict=True):
        row.seed, row.count = seed, count
        row.top_k = 0 if own.top_k is None or own.top_k >= vocabulary else own.top_k
        row.temperature, row.top_p, row.min_p = own.temperature, own.top_p or 1.0, own.min_p or 0.0
    sizes = [ctypes.c_int64(size) for size in (logits_BV.stride(0), vocabulary)]
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (logits_BV, tokens_B)]
    found.choose(pointers[0], *sizes, rows, ctypes.c_int64(len(rows)), pointers[1], ctypes.c_int64(threads))
    return tokens_B

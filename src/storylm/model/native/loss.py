"""`loss.cpp` on tensors. No operators of torch: the loss is no part of what is compiled."""

# C rows of a chunk, V vocabulary, P columns with padding

import ctypes

import torch
from torch import Tensor

from storylm.model.native.build import library


def softmax_gradient_(logits_CP: Tensor, targets_C: Tensor, vocabulary: int) -> Tensor:
    """The nats of a chunk's targets, [C] in fp32; the logits become their gradient, softmax - one-hot.

    Targets below 0 count for nothing; columns from `vocabulary` on are padding and get no gradient.
    """
    assert logits_CP.is_contiguous(), "logits do not lie together"
    assert targets_C.dtype == torch.int64, f"targets are {targets_C.dtype}"
    # In C++ a target beyond the vocabulary would be someone else's memory.
    assert len(targets_C) == len(logits_CP), "not a target for each row"
    assert int(targets_C.max()) < vocabulary <= logits_CP.shape[1], f"a target is not below {vocabulary}"
    targets_C, nats_C = targets_C.contiguous(), logits_CP.new_empty(len(logits_CP), dtype=torch.float32)
    _library().softmax_gradient(
        _pointer(logits_CP),
        _pointer(targets_C),
        _pointer(nats_C),
        _is_half(logits_CP),
        *map(ctypes.c_int64, (*logits_CP.shape, vocabulary, torch.get_num_threads())),
    )
    return nats_C


def add_to_(sums: Tensor, more: Tensor, first: bool) -> None:
    """sums += more, or where it is the `first` sums = more; `sums` is fp32, and `more` is not widened in memory."""
    assert sums.is_contiguous(), "sums do not lie together"
    assert more.is_contiguous(), "summands do not lie together"
    assert sums.shape == more.shape, f"{tuple(sums.shape)} += {tuple(more.shape)}"
    size, threads = ctypes.c_int64(sums.numel()), ctypes.c_int64(torch.get_num_threads())
    _library().add_to(_pointer(sums), _pointer(more), _is_half(more), size, int(first), threads)


def _library() -> ctypes.CDLL:
    native = library()
    assert native is not None, "ask `available` first"
    return native


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _is_half(x: Tensor) -> int:
    return int(x.dtype == torch.bfloat16)

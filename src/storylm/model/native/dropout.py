"""`dropout.cpp` as an operator of torch, with its gradient."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from storylm.model.native.build import library


@torch.library.custom_op("storylm::drop", mutates_args=(), device_types="cpu")
def drop(x: Tensor, rate: float, seed: Tensor) -> Tensor:
    """`x` (fp32 or bf16) with a share of `rate` dropped and the rest divided by 1 - rate.

    `seed` (int64, a scalar, not negative) decides which, in far fewer steps a number than torch's generators take.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    native = library()
    assert native is not None, "ask `available` first"
    native.dropout(
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_void_p(out.data_ptr()),
        int(x.dtype == torch.bfloat16),
        ctypes.c_int64(x.numel()),
        ctypes.c_float(1.0 - rate),
        ctypes.c_uint64(int(seed)),
        ctypes.c_int64(torch.get_num_threads()),
    )
    return out


@drop.register_fake
def _(x: Tensor, rate: float, seed: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_for_backward(ctx: Any, inputs: Any, output: Any) -> None:
    _, ctx.rate, seed = inputs
    ctx.save_for_backward(seed)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return drop(gradient, ctx.rate, ctx.saved_tensors[0]), None, None


drop.register_autograd(_backward, setup_context=_keep_for_backward)

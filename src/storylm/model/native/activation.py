"""`activation.cpp` as operators of torch."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from storylm.model.native.build import library


@torch.library.custom_op("storylm::gelu_tanh", mutates_args=(), device_types="cpu")
def gelu_tanh(x: Tensor) -> Tensor:
    """`F.gelu(x, approximate="tanh")` for fp32 and bf16, several times as fast."""
    return _call("gelu_tanh", x.contiguous())


@torch.library.custom_op("storylm::gelu_tanh_gradient", mutates_args=(), device_types="cpu")
def _gelu_tanh_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    return _call("gelu_tanh_gradient", x.contiguous(), gradient.contiguous())


@gelu_tanh.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_gelu_tanh_gradient.register_fake
def _(x: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_for_backward(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    return _gelu_tanh_gradient(*ctx.saved_tensors, gradient)


gelu_tanh.register_autograd(_backward, setup_context=_keep_for_backward)


def _call(name: str, *tensors: Tensor) -> Tensor:
    native, out = library(), torch.empty_like(tensors[0])
    assert native is not None, "ask `available` first"
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in (*tensors, out)]
    half = int(out.dtype == torch.bfloat16)
    getattr(native, name)(*pointers, half, ctypes.c_int64(out.numel()), ctypes.c_int64(torch.get_num_threads()))
    return out

"""`activation.cpp` on tensors, with gradients: GELU as an operator of torch, SwiGLU's product as a function."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from storylm.model.native import DTYPES
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


def silu_gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, as SwiGLU has it, for fp32 and bf16. Not for what is compiled, which fuses its own."""
    assert (gate.shape, gate.dtype) == (up.shape, up.dtype), "a gate is as what it gates"
    return _SiluGated.apply(gate.contiguous(), up.contiguous())


class _SiluGated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _call("silu_gated", gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        gate, up = ctx.saved_tensors
        out = torch.empty_like(gate), torch.empty_like(up)
        _run("silu_gated_gradient", gate, up, gradients[0].contiguous(), *out)
        return out


def _call(name: str, *tensors: Tensor) -> Tensor:
    out = torch.empty_like(tensors[0])
    _run(name, *tensors, out)
    return out


def _run(name: str, *tensors: Tensor) -> None:
    """A function on tensors of one shape and dtype, the last of which it writes to."""
    native = library()
    assert native is not None, "ask `available` first"
    for x in tensors:  # in C++ anything else would be someone else's memory
        assert x.device.type == "cpu", f"a tensor is on {x.device}"
        assert x.dtype == tensors[-1].dtype, f"numbers are {x.dtype} and {tensors[-1].dtype}"
        assert x.dtype in DTYPES, f"numbers are {x.dtype}"
    size, half = tensors[-1].numel(), int(tensors[-1].dtype == torch.bfloat16)
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in tensors]
    getattr(native, name)(*pointers, half, ctypes.c_int64(size), ctypes.c_int64(torch.get_num_threads()))

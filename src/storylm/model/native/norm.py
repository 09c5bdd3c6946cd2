"""`norm.cpp` as functions of torch, with their gradients. Not for what is compiled, which fuses its own."""

# B batch, T tokens, H heads, K head width, R = K/2 rotation planes, N rows, D width

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from storylm.model.native import DTYPES
from storylm.model.native.build import library


class _Rows(ctypes.Structure):
    """`Rows` of norm.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("gain", "cos", "sin", "scales")),
        *((name, ctypes.c_int64) for name in ("rows", "width", "heads", "places", "interleaved")),
        ("eps", ctypes.c_float),
        ("threads", ctypes.c_int64),
    )


def rms_norm(x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
    """x / rms(x) * gain over the last dimension, in fp32; in bf16 where autocast would make that of it anyway."""
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return _Norm.apply(x.contiguous(), gain_D, None, None, eps, False, torch.bfloat16 if half else torch.float32)


def turn_heads(
    x_BTHK: Tensor, gain_K: Tensor | None, angles: tuple[Tensor, Tensor] | None, eps: float, interleaved: bool
) -> Tensor:
    """Heads normalised (where there is a gain) and then rotated (where there are angles, [B or 1, 1, T, R] each)."""
    cos, sin = (None, None) if angles is None else (table.contiguous() for table in angles)
    return _Norm.apply(x_BTHK.contiguous(), gain_K, cos, sin, eps, interleaved, x_BTHK.dtype)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | None,
        cos: Tensor | None,
        sin: Tensor | None,
        eps: float,
        interleaved: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        _check(x, gain, cos, sin)
        y = torch.empty_like(x, dtype=dtype)
        scales_N = x.new_empty(x.numel() // x.shape[-1], dtype=torch.float32)
        ctx.save_for_backward(None if gain is None else x, gain, cos, sin, scales_N)
        ctx.shape, ctx.dtype, ctx.settings = x.shape, x.dtype, (eps, interleaved)
        rows = _rows(x.shape, gain, cos, sin, scales_N, eps, interleaved)
        _library().norm_forward(_pointer(x), _pointer(y), _is_half(x), _is_half(y), ctypes.byref(rows))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, cos, sin, scales_N = ctx.saved_tensors
        (dy,) = (gradient.contiguous() for gradient in gradients)
        dx = dy.new_empty(ctx.shape, dtype=ctx.dtype)
        rows = _rows(ctx.shape, gain, cos, sin, scales_N, *ctx.settings)
        blocks = -(-rows.rows // _library().norm_block())
        partial = None if gain is None else dy.new_zeros(blocks, rows.width, dtype=torch.float32)
        pointers = map(_pointer, (x, dy, dx, partial))
        _library().norm_backward(*pointers, _is_half(dx), _is_half(dy), ctypes.byref(rows))
        return dx, None if partial is None else partial.sum(0), None, None, None, None, None


def _check(x: Tensor, gain: Tensor | None, cos: Tensor | None, sin: Tensor | None) -> None:
    """In C++ a wrong shape would be someone else's memory."""
    assert all(tensor is None or tensor.device.type == "cpu" for tensor in (x, gain, cos, sin)), "not all on the CPU"
    assert x.dtype in DTYPES, f"numbers are {x.dtype}"
    if gain is not None:
        assert gain.dtype == torch.float32, f"the gain is {gain.dtype}"
        assert gain.shape == x.shape[-1:], f"a gain of {tuple(gain.shape)} for rows of {x.shape[-1]}"
        assert gain.is_contiguous(), "the gain does not lie together"
    if cos is not None and sin is not None:
        batch, tokens, _, width = x.shape
        assert cos.dtype == sin.dtype == torch.float32, f"angles are {cos.dtype} and {sin.dtype}"
        assert cos.shape == sin.shape, f"cosines are {tuple(cos.shape)}, sines {tuple(sin.shape)}"
        assert cos.shape[0] in (1, batch), f"angles for {cos.shape[0]} rows of {batch}"
        assert cos.shape[1:] == (1, tokens, width // 2), f"angles {tuple(cos.shape)} for heads {tuple(x.shape)}"
        assert width % 2 == 0, f"{width} features cannot be paired"


def _rows(
    shape: torch.Size,
    gain: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    scales_N: Tensor,
    eps: float,
    interleaved: bool,
) -> _Rows:
    places = 1 if cos is None else cos.shape[0] * cos.shape[2]
    heads = shape[-2] if cos is not None else 1
    addresses = (None if x is None else x.data_ptr() for x in (gain, cos, sin, scales_N))
    return _Rows(
        *addresses, len(scales_N), shape[-1], heads, max(1, places), int(interleaved), eps, torch.get_num_threads()
    )


def _library() -> ctypes.CDLL:
    native = library()
    assert native is not None, "ask `available` first"
    native.norm_block.restype = ctypes.c_int64
    return native


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _is_half(x: Tensor) -> int:
    return int(x.dtype == torch.bfloat16)

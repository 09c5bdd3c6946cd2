"""`attention.cpp` as an operator of torch, with its gradient."""

# B batch, T tokens, H query heads, G key/value heads, K head width

import ctypes
from typing import Any

import torch
from torch import Tensor

from storylm.model.native import DTYPES
from storylm.model.native.build import library

_ThreeStrides = ctypes.c_int64 * 3


class _Problem(ctypes.Structure):
    """`Problem` of attention.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "tokens", "heads", "groups", "width")),
        *((name, _ThreeStrides) for name in ("q_strides", "k_strides", "v_strides")),
        ("scale", ctypes.c_float),
        ("kept", ctypes.c_float),
        ("seed", ctypes.c_uint64),
        ("threads", ctypes.c_int64),
    )


@torch.library.custom_op("storylm::attend", mutates_args=(), device_types="cpu")
def attend(
    q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, first_BT: Tensor, scale: float, dropout: float, seed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention where query t of row b sees the keys `first_BT[b, t]` .. t: what they hold, [B, T, H, K].

    Second comes log(sum(exp(scores))), [B, H, T], which the gradient needs. Tensors are fp32 or bf16, `first_BT`
    int32; `seed` (int64, a scalar, not negative) decides which attention weights `dropout` drops.
    """
    q_BHTK, k_BGTK, v_BGTK = map(_features_together, (q_BHTK, k_BGTK, v_BGTK))
    _check(q_BHTK, k_BGTK, v_BGTK, first_BT)
    out_BTHK = q_BHTK.new_empty(_token_major(q_BHTK))
    normalisers_BHT = q_BHTK.new_empty(q_BHTK.shape[:3], dtype=torch.float32)
    _call("attention_forward", (q_BHTK, k_BGTK, v_BGTK), scale, dropout, seed)(first_BT, out_BTHK, normalisers_BHT)
    return out_BTHK, normalisers_BHT


@torch.library.custom_op("storylm::attend_backward", mutates_args=(), device_types="cpu")
def _attend_backward(
    q_BHTK: Tensor,
    k_BGTK: Tensor,
    v_BGTK: Tensor,
    first_BT: Tensor,
    scale: float,
    dropout: float,
    seed: Tensor | None,
    out_BTHK: Tensor,
    normalisers_BHT: Tensor,
    gradient_BTHK: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    q_BHTK, k_BGTK, v_BGTK = map(_features_together, (q_BHTK, k_BGTK, v_BGTK))
    q_gradient, k_gradient, v_gradient = (x.new_empty(_token_major(x)) for x in (q_BHTK, k_BGTK, v_BGTK))
    backward = _call("attention_backward", (q_BHTK, k_BGTK, v_BGTK), scale, dropout, seed)
    backward(first_BT, out_BTHK, normalisers_BHT, gradient_BTHK.contiguous(), q_gradient, k_gradient, v_gradient)
    return q_gradient, k_gradient, v_gradient


@attend.register_fake
def _(q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, first_BT: Tensor, scale: Any, dropout: Any, seed: Any) -> Any:
    out_BTHK = q_BHTK.new_empty(_token_major(q_BHTK))
    return out_BTHK, q_BHTK.new_empty(q_BHTK.shape[:3], dtype=torch.float32)


@_attend_backward.register_fake
def _(q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, *rest: Any) -> Any:
    return tuple(x.new_empty(_token_major(x)) for x in (q_BHTK, k_BGTK, v_BGTK))


def _keep_for_backward(ctx: Any, inputs: Any, output: Any) -> None:
    q_BHTK, k_BGTK, v_BGTK, first_BT, ctx.scale, ctx.dropout, seed = inputs
    ctx.seeded = seed is not None
    ctx.save_for_backward(q_BHTK, k_BGTK, v_BGTK, first_BT, *([seed] if ctx.seeded else []), *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient_BTHK: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    *heads_and_first, out_BTHK, normalisers_BHT = ctx.saved_tensors
    q_BHTK, k_BGTK, v_BGTK, first_BT, seed = heads_and_first if ctx.seeded else [*heads_and_first, None]
    gradients = _attend_backward(
        q_BHTK, k_BGTK, v_BGTK, first_BT, ctx.scale, ctx.dropout, seed, out_BTHK, normalisers_BHT, gradient_BTHK
    )
    return *(gradient.transpose(1, 2) for gradient in gradients), None, None, None, None


attend.register_autograd(_backward, setup_context=_keep_for_backward)


def _call(name: str, heads: tuple[Tensor, ...], scale: float, dropout: float, seed: Tensor | None) -> Any:
    """The function `name`, given its first arguments; it takes the other tensors."""
    native = library()
    assert native is not None, "ask `available` first"
    q_BHTK, k_BGTK, _ = heads
    batch, head_count, tokens, width = q_BHTK.shape
    assert seed is not None or dropout == 0, "dropout without a seed"
    problem = _Problem(
        *(batch, tokens, head_count, k_BGTK.shape[1], width),
        *(_ThreeStrides(*x.stride()[:3]) for x in heads),
        *(scale, 1.0 - dropout, 0 if seed is None else int(seed), torch.get_num_threads()),
    )
    half = int(q_BHTK.dtype == torch.bfloat16)

    def call(*tensors: Tensor) -> None:
        pointers = [ctypes.c_void_p(x.data_ptr()) for x in (*heads, *tensors)]
        getattr(native, name)(ctypes.byref(problem), half, *pointers)

    return call


def _features_together(x_BHTK: Tensor) -> Tensor:
    """The same where a head's features follow each other in memory, as they do but in tiny shapes, or a copy."""
    return x_BHTK if x_BHTK.stride(3) == 1 else x_BHTK.contiguous()


def _token_major(x_BHTK: Tensor) -> tuple[int, ...]:
    """Shape [B, T, H, K]: what comes next takes the features of a token together."""
    batch, heads, tokens, width = x_BHTK.shape
    return batch, tokens, heads, width


def _check(q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, first_BT: Tensor) -> None:
    # A wrong pointer is a crash without a word, so what is asked for here once is asked for hard.
    batch, heads, tokens, width = q_BHTK.shape
    for x in (q_BHTK, k_BGTK, v_BGTK):
        assert x.dtype in DTYPES, f"{x.dtype} is not fp32 or bf16"
        assert x.dtype == q_BHTK.dtype, "queries, keys and values of several precisions"
        assert x.shape[0] == batch, "queries, keys and values of several batches"
        assert x.shape[2:] == (tokens, width), "queries, keys and values of several lengths or widths"
    assert k_BGTK.shape == v_BGTK.shape, "keys and values of several heads"
    assert heads % k_BGTK.shape[1] == 0, "query heads are not a multiple of key heads"
    assert first_BT.dtype == torch.int32, "first_BT is not int32"
    assert first_BT.is_contiguous(), "first_BT is not contiguous"
    assert first_BT.shape == (batch, tokens), "first_BT is of another shape"

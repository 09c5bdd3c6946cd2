"""Causal self-attention with grouped heads, sliding windows and an optional cache."""

# B batch, T queries, S keys, D width, H query heads, G key/value heads, K head width

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storylm.config.model import ModelConfig
from storylm.model import native
from storylm.model.native.attention import attend
from storylm.model.native.norm import turn_heads
from storylm.model.norms import RMSNorm
from storylm.model.positions import Angles, rotate
from storylm.model.sight import Sight

CUDA_WIDTHS = 8  # torch's fused attention takes heads of multiples of so many features


class KeyValueCache(Protocol):
    """What attention needs of a cache; `generation.cache` has the real ones."""

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values at their positions; return all that queries may look at, [B, G, S, K]."""
        ...

    def key_positions(self, positions_BT: Tensor, window: int | None) -> Tensor:
        """The positions [B or 1, S] of the keys that `update` returns in layers of this window, whose queries are at
        `positions_BT`."""
        ...


class Attention(nn.Module):
    """Multi-head attention over the tokens at hand, or over those of a cache."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim, self.window = layer, config.head_dim, config.window(layer)
        self.scale, self.dropout, self.rope_layout = config.scale, config.dropout, config.rope_layout
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q = nn.Linear(config.width, query_width, bias=config.attention_bias)
        self.k = nn.Linear(config.width, key_width, bias=config.attention_bias)
        self.v = nn.Linear(config.width, key_width, bias=config.attention_bias)
        self.out = nn.Linear(query_width, config.width, bias=config.output_bias)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        angles: Angles | None,
        sight: Sight,
        cache: KeyValueCache | None = None,
        seed: Tensor | None = None,
    ) -> Tensor:
        q_BHTK = self.heads(self.q(x_BTD), self.q_norm, angles)
        k_BGTK = self.heads(self.k(x_BTD), self.k_norm, angles)
        v_BGTK = self.heads(self.v(x_BTD))
        # Norms and rotations compute in fp32 under autocast; attention wants one precision.
        q_BHTK, k_BGTK = q_BHTK.to(v_BGTK.dtype), k_BGTK.to(v_BGTK.dtype)
        if cache is not None:
            k_BGTK, v_BGTK = cache.update(self.layer, k_BGTK, v_BGTK, positions_BT)
        dropout = self.dropout if self.training else 0.0
        y_BTHK = attention(q_BHTK, k_BGTK, v_BGTK, sight, self.scale, dropout, seed)
        return self.out(y_BTHK.flatten(2))

    def heads(self, x_BTD: Tensor, norm: RMSNorm | None = None, angles: Angles | None = None) -> Tensor:
        """The heads of a projection, [B, H, T, K], normalised and rotated."""
        x_BTHK = x_BTD.unflatten(-1, (-1, self.head_dim))
        gain_K, eps = (None, 0.0) if norm is None else (norm.weight, norm.eps)
        given = [tensor for tensor in (gain_K, *(angles or ())) if tensor is not None]
        if given and native.fuses(x_BTHK, *given):
            return turn_heads(x_BTHK, gain_K, angles, eps, self.rope_layout == "interleaved").transpose(1, 2)
        x_BHTK = x_BTHK.transpose(1, 2)
        x_BHTK = x_BHTK if norm is None else norm(x_BHTK)
        return x_BHTK if angles is None else rotate(x_BHTK, angles, self.rope_layout)


def attention(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    sight: Sight,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """What each query finds in the values of the keys it sees, [B, T, H, K], by the fastest way there is.

    `dropout` is the share of attention weights to drop; `seed` decides which, where `draw_seeds` gave one.
    """
    if sight.first_BT is not None:
        precision = v_BGSK.dtype if v_BGSK.dtype in native.DTYPES else torch.float32
        heads = (x.to(precision) for x in (q_BHTK, k_BGSK, v_BGSK))
        return attend(*heads, sight.first_BT, scale, dropout, seed)[0].to(v_BGSK.dtype)
    grouped = q_BHTK.shape[1] != k_BGSK.shape[1]
    if sight.blocks is not None:
        from torch.nn.attention.flex_attention import flex_attention

        y_BHTK = flex_attention(q_BHTK, k_BGSK, v_BGSK, block_mask=sight.blocks, scale=scale, enable_gqa=grouped)
        return y_BHTK.transpose(1, 2)  # pyright: ignore[reportAttributeAccessIssue] - a tuple only where asked for
    width = q_BHTK.shape[-1]
    if q_BHTK.is_cuda and width % CUDA_WIDTHS:
        # Features of zeros change nothing, and without them torch falls back to a [T, T] matrix in memory.
        q_BHTK, k_BGSK, v_BGSK = (F.pad(x, (0, -width % CUDA_WIDTHS)) for x in (q_BHTK, k_BGSK, v_BGSK))
    y_BHTK = F.scaled_dot_product_attention(
        q_BHTK,
        k_BGSK,
        v_BGSK,
        attn_mask=None if sight.mask_BTS is None else sight.mask_BTS.unsqueeze(1),
        dropout_p=dropout,
        is_causal=sight.mask_BTS is None,
        scale=scale,
        enable_gqa=grouped,
    )
    return y_BHTK[..., :width].transpose(1, 2)

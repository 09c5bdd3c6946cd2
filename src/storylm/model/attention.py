"""Causal self-attention with grouped heads, sliding windows and an optional cache."""

# B batch, T queries, S keys, D width, H query heads, G key/value heads, K head width

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storylm.config.model import ModelConfig
from storylm.model import native
from storylm.model.native.attention import attend
from storylm.model.norms import build_norm
from storylm.model.positions import Angles, rotate


class KeyValueCache(Protocol):
    """What attention needs of a cache; `generation.cache` has the real ones."""

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values at their positions; return all that queries may look at, [B, G, S, K]."""
        ...

    def key_positions(self, positions_BT: Tensor) -> Tensor:
        """The positions [B or 1, S] of the keys that `update` returns for queries at `positions_BT`."""
        ...


def visible(
    queries_BT: Tensor,
    keys_BS: Tensor,
    window: int | None,
    query_documents_BT: Tensor | None = None,
    key_documents_BS: Tensor | None = None,
) -> Tensor:
    """Which keys each query may see, [B, T, S] of bool: the one definition, whatever computes the attention.

    A query sees itself and earlier tokens; with a window only the nearest `window` of them, itself
    included; with document numbers only those of its own document.

    >>> visible(torch.arange(3)[None], torch.arange(3)[None], window=2)[0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    distance_BTS = queries_BT[:, :, None] - keys_BS[:, None, :]
    seen_BTS = distance_BTS >= 0
    if window is not None:
        seen_BTS = seen_BTS & (distance_BTS < window)
    if query_documents_BT is not None and key_documents_BS is not None:
        seen_BTS = seen_BTS & (query_documents_BT[:, :, None] == key_documents_BS[:, None, :])
    return seen_BTS


def first_visible(length: int, window: int | None, documents_BT: Tensor | None) -> Tensor:
    """`visible` told in another way, for a row's own tokens: the first key each query sees, [B or 1, T] of int32.

    It sees all from there to itself, as the tokens of a document stand together.

    >>> first_visible(5, 3, torch.tensor([[0, 0, 0, 0, 1]]))
    tensor([[0, 0, 0, 1, 4]], dtype=torch.int32)
    """
    device = None if documents_BT is None else documents_BT.device
    places_T = torch.arange(length, dtype=torch.int32, device=device)
    first_BT = (places_T - (window or length) + 1).clamp(min=0)[None]
    if documents_BT is not None:
        begins_BT = F.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (1, 0))
        first_BT = torch.maximum(first_BT, (begins_BT * places_T).cummax(dim=1).values)
    return first_BT.to(torch.int32)


class Sight(NamedTuple):
    """Which keys the queries of a layer see, told as what computes its attention wants it told.

    `first_BT` for the kernel of this package, `mask_BTS` (see `visible`) for torch's; both None: all up to itself.
    """

    first_BT: Tensor | None = None
    mask_BTS: Tensor | None = None


class Attention(nn.Module):
    """Multi-head attention over the tokens at hand, or over those of a cache."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.scale, self.dropout, self.rope_layout = config.scale, config.dropout, config.rope_layout
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q = nn.Linear(config.width, query_width, bias=config.attention_bias)
        self.k = nn.Linear(config.width, key_width, bias=config.attention_bias)
        self.v = nn.Linear(config.width, key_width, bias=config.attention_bias)
        self.out = nn.Linear(query_width, config.width, bias=config.output_bias)
        self.q_norm = build_norm("rmsnorm", config.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = build_norm("rmsnorm", config.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        angles: Angles | None,
        sight: Sight,
        cache: KeyValueCache | None = None,
        seed: Tensor | None = None,
    ) -> Tensor:
        q_BHTK = self._heads(self.q(x_BTD))
        k_BGTK = self._heads(self.k(x_BTD))
        v_BGTK = self._heads(self.v(x_BTD))
        if self.q_norm is not None and self.k_norm is not None:
            q_BHTK, k_BGTK = self.q_norm(q_BHTK), self.k_norm(k_BGTK)
        if angles is not None:
            q_BHTK = rotate(q_BHTK, angles, self.rope_layout)
            k_BGTK = rotate(k_BGTK, angles, self.rope_layout)
        # Norms and rotations compute in fp32 under autocast; attention wants one precision.
        q_BHTK, k_BGTK = q_BHTK.to(v_BGTK.dtype), k_BGTK.to(v_BGTK.dtype)
        if cache is not None:
            k_BGTK, v_BGTK = cache.update(self.layer, k_BGTK, v_BGTK, positions_BT)
        dropout = self.dropout if self.training else 0.0
        if sight.first_BT is not None:
            precision = v_BGTK.dtype if v_BGTK.dtype in native.DTYPES else torch.float32
            heads = (x.to(precision) for x in (q_BHTK, k_BGTK, v_BGTK))
            y_BTHK, _ = attend(*heads, sight.first_BT, self.scale, dropout, seed)
            return self.out(y_BTHK.flatten(2).to(v_BGTK.dtype))
        y_BHTK = F.scaled_dot_product_attention(
            q_BHTK,
            k_BGTK,
            v_BGTK,
            attn_mask=None if sight.mask_BTS is None else sight.mask_BTS.unsqueeze(1),
            dropout_p=dropout,
            is_causal=sight.mask_BTS is None,
            scale=self.scale,
            enable_gqa=q_BHTK.shape[1] != k_BGTK.shape[1],
        )
        return self.out(y_BHTK.transpose(1, 2).flatten(2))

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def build_sights(
    windows: tuple[int | None, ...],
    positions_BT: Tensor,
    documents_BT: Tensor | None,
    keys_BS: Tensor | None,
    rows: int,
) -> dict[int | None, Sight]:
    """The `Sight` of each distinct window, for a batch of so many `rows`.

    `keys_BS` are the positions held by a cache; without one the keys are the queries themselves, told
    apart by where they stand in the row (positions restart where stories are separated).
    """
    length, device = positions_BT.shape[1], positions_BT.device
    if keys_BS is not None:
        return {window: Sight(mask_BTS=visible(positions_BT, keys_BS, window)) for window in set(windows)}
    if native.available(device):
        firsts = {window: first_visible(length, window, documents_BT) for window in set(windows)}
        return {window: Sight(first_BT.expand(rows, length).contiguous()) for window, first_BT in firsts.items()}
    places_BT = torch.arange(length, device=device)[None]
    return {
        window: Sight()
        if documents_BT is None and (window is None or window >= length)
        else Sight(mask_BTS=visible(places_BT, places_BT, window, documents_BT, documents_BT))
        for window in set(windows)
    }

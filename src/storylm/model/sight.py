"""Which keys a query may see: one definition, told in the ways that what computes attention wants it told."""

# B batch, T queries, S keys

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from storylm.model import native


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
    """What the queries of a layer see, for one of three: all None stands for all up to the query itself."""

    first_BT: Tensor | None = None  # noqa: N815 - for the kernel of this package, see `first_visible`
    mask_BTS: Tensor | None = None  # noqa: N815 - for torch's attention, see `visible`
    blocks: Any = None  # a BlockMask: for torch's FlexAttention, which leaves out what is hidden


def build_sights(
    windows: tuple[int | None, ...],
    positions_BT: Tensor,
    documents_BT: Tensor | None,
    keys: Callable[[int | None], Tensor] | None,
    rows: int,
    flexible: bool = False,
) -> dict[int | None, Sight]:
    """The `Sight` of each distinct window, for a batch of so many `rows`.

    `keys` gives the positions [B or 1, S] that a cache holds for a window; without one the keys are the queries
    themselves, told apart by where they stand in the row (positions restart where stories are separated).
    `flexible`: masks are for FlexAttention.
    """
    length, device = positions_BT.shape[1], positions_BT.device
    if keys is not None:
        return {window: Sight(mask_BTS=visible(positions_BT, keys(window), window)) for window in set(windows)}
    use_native = native.available(device)
    sights: dict[int | None, Sight] = {}
    for window in set(windows):
        if use_native:
            first_BT = first_visible(length, window, documents_BT)
            sights[window] = Sight(first_BT=first_BT.expand(rows, length).contiguous())
        elif documents_BT is None and (window is None or window >= length):
            sights[window] = Sight()
        elif flexible and documents_BT is None and window is not None:
            sights[window] = Sight(blocks=_window_blocks(length, window, device))
        elif flexible:
            sights[window] = Sight(blocks=_blocks(first_visible(length, window, documents_BT)))
        else:
            places_BT = torch.arange(length, device=device)[None]
            sights[window] = Sight(mask_BTS=visible(places_BT, places_BT, window, documents_BT, documents_BT))
    return sights


def is_flexible(head_dim: int, dropout: float) -> bool:
    """Whether FlexAttention can train such heads: it has no dropout, and on a GPU none narrower than 16."""
    return head_dim >= 16 and dropout == 0


def _blocks(first_BT: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first_BT[row, query])

    batch, length = first_BT.shape
    return create_block_mask(seen, batch, None, length, length, device=first_BT.device)  # pyright: ignore


@lru_cache(maxsize=32)
def _window_blocks(length: int, window: int, device: torch.device) -> Any:
    """The same for every row where stories do not matter: made once for a length."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < window)

    return create_block_mask(seen, None, None, length, length, device=device)  # pyright: ignore

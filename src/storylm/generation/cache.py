"""The keys and values of what was read so far, so that a new token costs one token's work."""

# B rows of a pass, T new tokens, N slots, S places in use, G key/value heads, K head width

from collections.abc import Sequence

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig


def check_capacity(capacity: int, config: ModelConfig) -> None:
    """A cache holds no more of a story than the model has positions for.

    Raises:
        UsageError: a capacity beyond that.
    """
    if not 1 <= capacity <= config.context:
        raise UsageError(f"capacity={capacity} is not allowed: it is from 1 to the model's context, {config.context}")


class SlotCache:
    """A slot for each story, and in it a place for each position: a token at position p is kept at place p.

    So `visible` alone, the rule that a query sees no later positions, also hides what is not written yet and what a
    story before left in the slot. Behind the places of a slot is one more that nobody sees: there goes what is at no
    place of a story.

    Layers of a window have a ring of as many places as it and the tokens of one pass need, and p is kept at p modulo
    their number. See `model.attention.KeyValueCache`.
    """

    def __init__(
        self,
        slots: int,
        capacity: int,
        dtype: torch.dtype | None = None,
        windows: Sequence[int | None] = (None,),
        at_once: int | None = None,
    ):
        """`capacity` is the longest story to come, in tokens, and `at_once` the most in a pass: all, unless given.

        Keys and values are kept in `dtype`, theirs unless given. `windows` are those of layers in turn.
        """
        self.slots, self.capacity, self._dtype, self._windows = slots, capacity, dtype, windows
        self._at_once = at_once or capacity
        self._used = 0
        self._slots_B: Tensor | None = None
        self._places_BT: Tensor | None = None
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def use(self, slots_B: Tensor | None, used: int, places_BT: Tensor | None = None) -> "SlotCache":
        """The rows of the next pass stand in these slots, [B] (None: in all), and see the places below `used`.

        `places_BT` are their tokens' positions, or -1 for those of no story; all have one unless given.
        """
        self._slots_B, self._used, self._places_BT = slots_B, used, places_BT
        return self

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values at their places; return those of places 0 .. S-1 of these rows, [B, G, S, K]."""
        size = self._size(self._windows[layer % len(self._windows)])
        if layer not in self._layers:
            self._layers[layer] = self._empty_like(k_BGTK, size), self._empty_like(v_BGTK, size)
        places_BT = self._placed(positions_BT)
        places_BT = torch.where(places_BT < 0, -1, places_BT % size)
        rows_B = self._slots_B
        every_B = torch.arange(self.slots, device=k_BGTK.device) if rows_B is None else rows_B
        found = []
        for kept_NGCK, new_BGTK in zip(self._layers[layer], (k_BGTK, v_BGTK), strict=True):
            kept_NGCK[every_B[:, None], :, places_BT] = new_BGTK.transpose(1, 2).to(kept_NGCK.dtype)
            seen_NGSK = kept_NGCK[:, :, : size if size < self.capacity else self._used]
            found.append((seen_NGSK if rows_B is None else seen_NGSK[rows_B]).to(new_BGTK.dtype))
        return found[0], found[1]

    def key_positions(self, positions_BT: Tensor, window: int | None = None) -> Tensor:
        """The positions of those places, [1, S], or of a ring [B, S]; asked once for each window."""
        size = self._size(window)
        if size == self.capacity:
            return torch.arange(self._used, device=positions_BT.device)[None]
        last_B1 = self._placed(positions_BT).amax(1, keepdim=True)
        found_BS = last_B1 - (last_B1 - torch.arange(size, device=positions_BT.device)) % size
        return torch.where(found_BS < 0, last_B1 + 1, found_BS)  # not written yet: hidden as what comes later is

    def _placed(self, positions_BT: Tensor) -> Tensor:
        return positions_BT if self._places_BT is None else self._places_BT

    def _size(self, window: int | None) -> int:
        """The places of a slot that layers of this window have."""
        return self.capacity if window is None else min(self.capacity, window + self._at_once - 1)

    def _empty_like(self, x_BGTK: Tensor, size: int) -> Tensor:
        _, heads, _, width = x_BGTK.shape
        # Zeros: hidden places get weight 0, and 0 times whatever lay in that memory could be NaN.
        return x_BGTK.new_zeros(self.slots, heads, size + 1, width, dtype=self._dtype)

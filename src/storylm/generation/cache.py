"""The keys and values of what was read and told so far, so that a new token costs one token's work."""

# B batch, T new tokens, S slots in use, G key/value heads, K head width

import torch
from torch import Tensor


class SlotCache:
    """One slot per position and row: a token at position p is kept in slot p.

    So `visible` alone, the rule that a query sees no later positions, also hides the slots that are not
    written yet, and those that hold the padding behind a shorter prompt until the row's own tokens come to
    stand there. `capacity` is the longest row to come, in tokens. See `model.attention.KeyValueCache`.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._used = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values at their positions; return those of slots 0 .. S-1, [B, G, S, K]."""
        if layer not in self._layers:
            self._layers[layer] = self._empty_like(k_BGTK), self._empty_like(v_BGTK)
        keys_BGCK, values_BGCK = self._layers[layer]
        rows_B1 = torch.arange(len(k_BGTK), device=k_BGTK.device)[:, None]
        keys_BGCK[rows_B1, :, positions_BT] = k_BGTK.transpose(1, 2)
        values_BGCK[rows_B1, :, positions_BT] = v_BGTK.transpose(1, 2)
        return keys_BGCK[:, :, : self._used], values_BGCK[:, :, : self._used]

    def key_positions(self, positions_BT: Tensor) -> Tensor:
        """The positions [1, S] of those slots, up to the last of the queries. Asked once, before the layers."""
        self._used = int(positions_BT.max()) + 1
        return torch.arange(self._used, device=positions_BT.device)[None]

    def keep(self, rows: Tensor) -> None:
        """Forget all rows of the batch but these, [B'] of indices in the batch as it is now."""
        self._layers = {layer: (k[rows], v[rows]) for layer, (k, v) in self._layers.items()}

    def _empty_like(self, x_BGTK: Tensor) -> Tensor:
        batch, heads, _, width = x_BGTK.shape
        # Zeros: hidden slots get weight 0, and 0 times whatever lay in that memory could be NaN.
        return x_BGTK.new_zeros(batch, heads, self.capacity, width)

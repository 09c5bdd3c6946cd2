"""Batches of random tokens in the shape of a run's own: to try what a run will take before there are stories."""

import torch

from storylm.config.schema import RunConfig
from storylm.data.batches import IGNORED, PADDED_LENGTHS, Batch

# B rows, T tokens in a row


class RandomBatches:
    """Stands in for `PackedBatches` and `PaddedBatches`. `story_tokens` is what a story has of them on average.

    Packed, all rows are full. Padded, those of step 0 are as wide as rows can come, the others as batches of stories
    mostly are, twice the mean story, of which half is padding. Stories that are kept apart are half a row long.
    """

    rows_per_epoch = 1

    def __init__(self, config: RunConfig, story_tokens: int, rows: int | None = None):
        self.config, self.rows = config, rows or config.train.batch_size
        self.padded = config.data.layout == "padded"
        self.tokens_per_epoch = min(story_tokens, config.row_length) if self.padded else config.row_length

    def epoch(self, step: int, ranks: int = 1) -> float:
        """None is ever over."""
        return 0.0

    def micro_batches(self, ranks: int = 1) -> int:
        """As many as the settings ask for; `ranks` is 1."""
        return self.config.train.accumulation

    def batch(self, step: int, micro: int = 0, rank: int = 0, ranks: int = 1) -> Batch:
        """The same for the same numbers."""
        width = self._width(step)
        generator = torch.Generator().manual_seed(1009 * step + micro)
        both_BT = torch.randint(self.config.model.vocab_size, (self.rows, width + 1), generator=generator)
        tokens_BT, targets_BT = both_BT[:, :-1].contiguous(), both_BT[:, 1:].contiguous()
        if self.padded:
            targets_BT[:, self.tokens_per_epoch :] = IGNORED
        elif self.config.data.separate_stories:
            places_BT = torch.arange(width).expand(self.rows, width)
            half = max(1, width // 2)
            return Batch(tokens_BT, targets_BT, places_BT % half, places_BT // half)
        return Batch(tokens_BT, targets_BT)

    def _width(self, step: int) -> int:
        longest = self.config.row_length
        if not self.padded or step == 0:
            return longest
        unit = -(-longest // (16 * PADDED_LENGTHS)) * 16  # as `PaddedBatches` rounds it
        return min(longest, -(-2 * self.tokens_per_epoch // unit) * unit)

"""Stories cut into windows that fit a model's context, and windows gathered into batches.

                          tokens     s a b c d e f      (s start; the last target is the end token)
context 4                 window     s a b c            scores a b c d; the rest is not scored
context 4, stride 2       window 1   s a b c            scores a b c d
                          window 2       b c d e        scores e f
                          window 3           d e f      scores the end
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from storylm.model.loss import IGNORED


@dataclass(frozen=True)
class Window:
    """What the model reads, and what it should have predicted after each token; -100 where that is not scored."""

    tokens: np.ndarray
    targets: np.ndarray
    last: bool
    """Whether nothing more of its story is scored."""
    first: int = 0
    """Which token of its story the first target is; negative in an order."""
    story: int = 0
    """The story's number, whatever the caller counts by."""


def windows(
    ids: np.ndarray, start_id: int, end_id: int, context: int, stride: int | None, story: int = 0, given: int = 0
) -> Iterator[Window]:
    """The windows of one story, `ids` being its tokens without special ones; without a stride only the first.

    Of these, the first `given` are an order, which is read and not scored.

    >>> [w.targets.tolist() for w in windows(np.array([7, 8, 9]), start_id=0, end_id=0, context=3, stride=2)]
    [[7, 8, 9], [-100, 0]]
    """
    stream = np.concatenate(([start_id], ids, [end_id])).astype(np.int64)
    tokens, targets = stream[:-1], stream[1:]
    scored = given
    for first in range(0, len(tokens), stride or len(tokens)):
        end = min(first + context, len(tokens))
        window_targets = targets[first:end].copy()
        window_targets[: max(0, scored - first)] = IGNORED
        last = stride is None or end == len(tokens)
        yield Window(tokens[first:end], window_targets, last, first - given, story)
        scored = max(end, given)
        if last:
            return


def batches(windows: Iterable[Window], tokens_per_batch: int) -> Iterator[list[Window]]:
    """Windows of like length together, so that at most `tokens_per_batch` tokens, padding included, make a batch."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: len(window.tokens)):
        if batch and (len(batch) + 1) * len(window.tokens) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def padded(batch: Sequence[Window], device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch as tensors, [B, T] of tokens and of targets, padded on the right where no target is."""
    shape = (len(batch), max(len(window.tokens) for window in batch))
    tokens_BT, targets_BT = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    for row, window in enumerate(batch):
        tokens_BT[row, : len(window.tokens)] = window.tokens
        targets_BT[row, : len(window.targets)] = window.targets
    return torch.from_numpy(tokens_BT).to(device), torch.from_numpy(targets_BT).to(device)

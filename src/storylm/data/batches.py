"""Batches as a pure function of (seed, step, rank): nothing to save, nothing to restore, the same on every machine.

A step takes `batch_size` * `accumulation` rows however many devices (ranks) share them: the number of devices changes
how long a step takes, and nothing else. So a run can go on with more of them or with fewer.

An **epoch** shows every token exactly once as a target (but start tokens that are not also end tokens: they are
always given, never to be predicted). It is a sequence of rows in an order of its own (`data.order`); row after row,
whatever the step, makes the batches, and the next epoch follows without a gap.

    stories                 one: a b c E   two: d e E          E: the end token, which here is also the start token
    packed, context 4       E a b c | E d e E                  what the model reads; targets are one token further on
                            a b c E | d e E a
    padded                  E a b c     E d e .
                            a b c E     d e E .

With `loss_on="story"`, the tokens of an order (`data.instruct`) are read and not learned: they are no targets. The
first of a story is one, predicted from the last of its order.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from storylm.config.errors import DataError, UsageError
from storylm.data.order import offset, rows_at
from storylm.data.shards import TokenSet

# B rows, T tokens in a row

IGNORED = -100  # a target without loss; the default of torch's cross-entropy
PADDED_LENGTHS = 8  # a compiled model is compiled for each length, and no more often than this by default


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads and should predict. All int64, [B, T].

    `targets_BT` is IGNORED where there is no loss. `documents_BT` numbers the stories of a row, which are not to see
    each other, and `positions_BT` counts from each one's start; both None: positions count from the row's start.
    """

    tokens_BT: Tensor  # noqa: N815 - shapes are capitals
    targets_BT: Tensor  # noqa: N815
    positions_BT: Tensor | None = None  # noqa: N815
    documents_BT: Tensor | None = None  # noqa: N815

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        device = torch.device(device)
        parts = (self.tokens_BT, self.targets_BT, self.positions_BT, self.documents_BT)
        return Batch(*(part if part is None else _sent(part, device) for part in parts))  # pyright: ignore


def _sent(part: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return part.to(device)
    # From pinned memory the copy waits for its turn on the device while the program goes on, and half as wide it is
    # twice as fast.
    return part.to(torch.int32).pin_memory().to(device, non_blocking=True).long()


class _Batches:
    """The order of rows. A subclass says what is in a row: `rows_per_epoch`, `tokens_per_epoch`, `_rows`."""

    rows_per_epoch: int
    tokens_per_epoch: int

    def __init__(
        self,
        token_set: TokenSet,
        *,
        context: int,
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        separate_stories: bool = False,
        loss_on: str = "all",
    ):
        if not token_set.tokens:
            raise DataError("there are no stories to make batches of")
        self.token_set, self.context, self.batch_size = token_set, context, batch_size
        self.accumulation, self.seed, self.separate_stories = accumulation, seed, separate_stories
        self.start_is_end = token_set.start_id == token_set.end_id
        if loss_on == "story" and not token_set.has_orders:
            raise UsageError(
                "data.loss_on=story leaves out what stories were asked to have, and these have no orders: set "
                "data.format=instruct, or use a folder of `storylm prepare --instruct`; or data.loss_on=all"
            )
        self.loss_on = loss_on

    @property
    def rows_per_step(self) -> int:
        """Of all devices together."""
        return self.batch_size * self.accumulation

    @property
    def steps_per_epoch(self) -> float:
        return self.rows_per_epoch / self.rows_per_step

    def epoch(self, step: int) -> float:
        """How often every token was shown before `step`."""
        return step / self.steps_per_epoch

    def micro_batches(self, ranks: int = 1) -> int:
        """Forward passes in a step, as many on each of `ranks` devices: they wait for each other in every one.

        Raises `UsageError` where a step has fewer rows than there are devices.
        """
        if self.rows_per_step < ranks:
            raise UsageError(
                f"a step of train.batch_size={self.batch_size} x train.accumulation={self.accumulation} rows cannot be "
                f"shared by {ranks} processes: set train.batch_size={-(-ranks // self.accumulation)} or more, or start "
                f"fewer processes"
            )
        return -(-self.rows_per_step // (ranks * self.batch_size))

    def batch(self, step: int, micro: int = 0, rank: int = 0, ranks: int = 1) -> Batch:
        """The rows of one forward pass: micro-batch `micro` of step `step` on device `rank` of `ranks`.

        Each device has the next part of the step's rows, the parts as equal as can be, and goes through it in at most
        `batch_size` rows at a time. The rows of all micro-batches of rank 0, then of rank 1, ... are the step's rows
        in order.
        """
        assert 0 <= rank < ranks, "no such rank"
        micros = self.micro_batches(ranks)
        assert 0 <= micro < micros, "no such micro-batch"
        first, end = _part(self.rows_per_step, rank, ranks)
        begin, stop = (first + place for place in _part(end - first, micro, micros))
        if begin == stop:  # a row fewer than the other devices have, where each is a pass: go along and learn nothing
            batch = self._numbered(step * self.rows_per_step + np.arange(first, first + 1))
            return replace(batch, targets_BT=torch.full_like(batch.targets_BT, IGNORED))
        return self._numbered(step * self.rows_per_step + np.arange(begin, stop))

    def _numbered(self, rows: np.ndarray) -> Batch:
        """Rows by their numbers since the beginning of the run."""
        epochs, places = np.divmod(rows, self.rows_per_epoch)
        for epoch in np.unique(epochs).tolist():
            now = epochs == epoch
            rows[now] = rows_at(places[now], self.rows_per_epoch, self.seed, epoch)
        return self._rows(rows, epochs)

    def _rows(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        raise NotImplementedError

    def _read(self, firsts: np.ndarray, lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [B, width] of tokens and targets: `lengths` targets from `firsts` on, each after its predecessor."""
        both = np.empty((len(firsts), width + 1), np.int64)
        for row, first in enumerate(firsts.tolist()):
            self.token_set.read_into(both[row], first - 1)
        targets_BT = both[:, 1:].copy()
        targets_BT[np.arange(width) >= lengths[:, None]] = IGNORED
        if not self.start_is_end:
            targets_BT[targets_BT == self.token_set.start_id] = IGNORED
        if self.loss_on == "story":
            places_BT = (firsts[:, None] + np.arange(width)) % self.token_set.tokens
            stories_BT = np.searchsorted(self.token_set.story_starts, places_BT, "right") - 1
            targets_BT[places_BT < self.token_set.story_begins[stories_BT]] = IGNORED
        return both[:, :-1], targets_BT

    def _unlearned(self) -> int:
        """Tokens of an epoch that are no targets: start tokens that are no end tokens, and orders where so set."""
        starts = 0 if self.start_is_end else self.token_set.stories
        if self.loss_on == "all":
            return starts
        # A start token belongs to what comes before the story: to the order, where there is one.
        starts_S, begins_S = self.token_set.story_starts[:-1], self.token_set.story_begins
        return int(np.maximum(begins_S - starts_S, 0 if self.start_is_end else 1).sum())


class PackedBatches(_Batches):
    """Stories end to end in full rows of `context` targets, cut where a row ends.

    The corpus is a ring; an epoch starts anywhere in it, so that rows are cut elsewhere each time, and its last row
    is filled up with ignored targets. With `separate_stories`, stories do not see each other and positions count
    from each one's start. What a row has of a story that the row before cut keeps its positions where the row's
    `context` has room for them; the rest of a longer story counts from 0, as `evaluate` reads it too.
    """

    def __init__(self, token_set: TokenSet, **settings):
        super().__init__(token_set, **settings)
        self.rows_per_epoch = -(-token_set.tokens // self.context)
        self.tokens_per_epoch = token_set.tokens - self._unlearned()
        if self.separate_stories:
            starts, tokens = token_set.story_starts[:-1], token_set.tokens
            self._ring = np.concatenate([starts, starts + tokens, [2 * tokens]])  # where stories begin, twice round

    def _rows(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        total = self.token_set.tokens
        offsets = np.array([offset(total, self.seed, epoch) for epoch in epochs.tolist()])
        firsts = offsets + rows * self.context
        lengths = np.minimum(self.context, total - rows * self.context)
        tokens_BT, targets_BT = self._read(firsts, lengths, self.context)
        tensors = [tokens_BT, targets_BT]
        if self.separate_stories:
            tensors += self._stories(firsts)
        return Batch(*map(torch.from_numpy, tensors))

    def _stories(self, firsts: np.ndarray) -> list[np.ndarray]:
        """Positions and document numbers, [B, T] each."""
        # Where an end token is also the start token of what follows, a place belongs to the story of its target.
        places_B = (firsts - (0 if self.start_is_end else 1)) % self.token_set.tokens
        after_B = np.searchsorted(self._ring, places_B, "right")  # the first story that begins in the row
        counts_B = np.searchsorted(self._ring, places_B + self.context, "left") - after_B
        rows = np.repeat(np.arange(len(firsts)), counts_B)
        stories = np.arange(len(rows)) + np.repeat(after_B - np.cumsum(counts_B) + counts_B, counts_B)
        columns = self._ring[stories] - places_B[rows]
        begins_BT = np.full((len(firsts), self.context), -self.token_set.tokens)  # the column its story began in
        begins_BT[:, 0] = self._ring[after_B - 1] - places_B
        begins_BT[rows, columns] = columns
        positions_BT = np.arange(self.context) - np.maximum.accumulate(begins_BT, axis=1)
        documents_BT = np.cumsum(positions_BT == 0, axis=1)
        cut_BT = documents_BT == 0  # the rest of a story that began in another row
        too_far_B = (positions_BT * cut_BT).max(axis=1) >= self.context
        positions_BT -= positions_BT[:, :1] * (cut_BT & too_far_B[:, None])
        return [positions_BT, documents_BT]


class PaddedBatches(_Batches):
    """One story a row, filled up on the right to the longest of the batch; longer than `context`: several rows.

    Every row but a long story's later ones begins with the start token, whatever `separate_stories` says: stories
    never meet. Widths are multiples of an eighth of the context.
    """

    def __init__(self, token_set: TokenSet, **settings):
        super().__init__(token_set, **settings)
        self._given = 0 if self.start_is_end else 1  # tokens at a story's start that are no targets
        lengths = np.diff(token_set.story_starts) - self._given
        self._first_rows = np.concatenate([[0], np.cumsum(-(-lengths // self.context))])  # 8 bytes a story
        self.rows_per_epoch = int(self._first_rows[-1])
        self.tokens_per_epoch = token_set.tokens - self._unlearned()
        self._width_step = -(-self.context // (16 * PADDED_LENGTHS)) * 16

    def _rows(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        stories = np.searchsorted(self._first_rows, rows, "right") - 1
        starts = self.token_set.story_starts
        firsts = starts[stories] + self._given + (rows - self._first_rows[stories]) * self.context
        lengths = np.minimum(self.context, starts[stories + 1] - firsts)
        width = min(self.context, -(-int(lengths.max()) // self._width_step) * self._width_step)
        tokens_BT, targets_BT = self._read(firsts, lengths, width)
        tokens_BT[np.arange(width) >= lengths[:, None]] = self.token_set.end_id
        return Batch(torch.from_numpy(np.ascontiguousarray(tokens_BT)), torch.from_numpy(targets_BT))


def _part(size: int, number: int, parts: int) -> tuple[int, int]:
    """Where part `number` of `parts` of a sequence begins and ends; they differ by one at most."""
    return size * number // parts, size * (number + 1) // parts

"""Steps that a device takes by itself: what it draws goes straight into the next step, and here when it comes.

The host says who has which slot when that changes, and never waits for what it could know without asking: where in its
story each token stands, and how many came before. On a GPU it launches a step, and then looks at the one before.
"""

# B rows, N slots, V vocabulary

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from storylm.generation.draft import Turn, as_likelihoods, likelihood_tensors
from storylm.generation.reading import Part
from storylm.generation.sampling import Sampling, as_int64, choose_alike, penalise_repetition
from storylm.generation.steps import Drawn, check_scores
from storylm.generation.torch_reader import TorchReader


class _Numbers(NamedTuple):
    """Of a story: the place of the token to be read, or -1; its seed; and how many tokens were drawn."""

    place: int
    seed: int
    count: int

    def after_a_step(self) -> "_Numbers":
        return _Numbers(self.place + (self.place >= 0), self.seed, self.count + 1)


_NOBODY = _Numbers(-1, 0, 0)


class DeviceSteps:
    """See `Steps`. With `ahead` 0 every step is waited for."""

    def __init__(self, reader: TorchReader, vocabulary: int, ahead: int):
        self.ahead, self._reader, self._scores_NV = ahead, reader, reader.scores_NV[:, :vocabulary]
        self._seeds_N, self._counts_N = torch.zeros_like(reader.tokens_N), torch.zeros_like(reader.tokens_N)
        self._there: list[_Numbers | None] = []  # what the device has of each story
        self._samplings: list[Sampling | None] = []
        self._alike: list[tuple[Sampling, Tensor | slice]] = []  # settings, and the slots whose they are
        self._seen_NV: Tensor | None = None  # tokens of each story, where one of them is not to repeat itself

    @torch.inference_mode()
    def launch(self, turns: Sequence[Turn]) -> Callable[[], Drawn]:
        """See `Steps`."""
        reader = self._reader
        self._seat(turns)
        going_on, new = [turn for turn in turns if turn.count], [turn for turn in turns if not turn.count]
        if going_on:
            reader.read_singles([turn.slot for turn in going_on], max(turn.place for turn in going_on))
        if new:
            reader.read_prompts([Part(turn.slot, 0, turn.draft.prompt_ids) for turn in new])
        tokens_N = self._draw()
        watched = [turn for turn in turns if turn.draft.watch is not None]
        arrived = _sent_home(tokens_N, *self._likelihoods(watched, tokens_N))
        sound = _sent_home(self._scores_NV.sum(-1).isfinite()) if new else None
        reader.tokens_N.copy_(tokens_N)
        reader.places_N.add_(reader.places_N >= 0)
        self._counts_N.add_(1)
        return partial(_drawn, turns, watched, arrived, sound, [turn.slot for turn in new])

    def _seat(self, turns: Sequence[Turn]) -> None:
        """Tell the device what it does not know of these; what goes on as it went it knows."""
        reader = self._reader
        wanted: list[_Numbers | None] = [None] * reader.slots
        after = wanted.copy()
        for turn in turns:
            numbers = _Numbers(turn.place if turn.count else -1, as_int64(turn.draft.seed), turn.count)
            wanted[turn.slot], after[turn.slot] = numbers, numbers.after_a_step()
        if wanted != self._there:
            places_N, seeds_N, counts_N = reader.upload(list(zip(*(each or _NOBODY for each in wanted), strict=True)))
            reader.places_N.copy_(places_N)
            self._seeds_N.copy_(seeds_N)
            self._counts_N.copy_(counts_N)
        self._there = after
        self._group(turns)
        for turn in turns:
            if turn.draft.sampling.repetition_penalty != 1 and not turn.count:
                self._remember(turn)

    def _group(self, turns: Sequence[Turn]) -> None:
        """Who draws with whom, by their settings."""
        samplings: list[Sampling | None] = [None] * self._reader.slots
        for turn in turns:
            samplings[turn.slot] = turn.draft.sampling
        if samplings == self._samplings:
            return
        self._samplings, self._alike = samplings, []
        for sampling in dict.fromkeys(turn.draft.sampling for turn in turns):
            slots = [slot for slot, own in enumerate(samplings) if own == sampling]
            every = len(slots) == len(samplings)
            self._alike.append((sampling, slice(None) if every else self._reader.upload(slots)))

    def _remember(self, turn: Turn) -> None:
        """The tokens of a new story's prompt."""
        if self._seen_NV is None:
            self._seen_NV = torch.zeros_like(self._scores_NV, dtype=torch.bool)
        self._seen_NV[turn.slot].fill_(False).index_fill_(0, self._reader.upload(turn.draft.prompt_ids), True)

    def _draw(self) -> Tensor:
        """The next token of each slot, [N]; 0 where there is no story."""
        tokens_N = torch.zeros_like(self._reader.tokens_N)
        for sampling, rows in self._alike:
            logits_BV = self._scores_NV[rows]
            if sampling.repetition_penalty != 1:
                assert self._seen_NV is not None
                logits_BV = penalise_repetition(logits_BV, self._seen_NV[rows], sampling.repetition_penalty)
            tokens_N[rows] = choose_alike(logits_BV, sampling, self._seeds_N[rows], self._counts_N[rows])
        if self._seen_NV is not None:
            self._seen_NV.scatter_(1, tokens_N[:, None], True)
        return tokens_N

    def _likelihoods(self, watched: Sequence[Turn], tokens_N: Tensor) -> Sequence[Tensor]:
        if not watched:
            return ()
        slots_B = self._reader.upload([turn.slot for turn in watched])
        most = max(turn.draft.watch or 0 for turn in watched)
        return likelihood_tensors(self._scores_NV[slots_B], tokens_N[slots_B], most)


def _sent_home(*tensors: Tensor) -> Callable[[], list[list]]:
    """What waits until these are here, while the device goes on, and has them as lists."""
    on_cuda = tensors[0].is_cuda
    here = [
        torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_cuda).copy_(tensor, non_blocking=on_cuda)
        for tensor in tensors
    ]
    done = torch.cuda.current_stream(tensors[0].device).record_event() if on_cuda else None

    def arrived() -> list[list]:
        if done is not None:
            done.synchronize()
        return [tensor.tolist() for tensor in here]

    return arrived


def _drawn(
    turns: Sequence[Turn],
    watched: Sequence[Turn],
    arrived: Callable[[], list[list]],
    sound: Callable[[], list[list]] | None,
    new: Sequence[int],
) -> Drawn:
    tokens, *found = arrived()
    if sound is not None:
        (finite,) = sound()
        check_scores(all(finite[slot] for slot in new))
    by_slot = dict(zip((turn.slot for turn in watched), as_likelihoods(*found), strict=True)) if found else {}
    for turn in watched:  # others may have asked for more
        likelihood = by_slot[turn.slot]
        by_slot[turn.slot] = likelihood._replace(instead=dict(list(likelihood.instead.items())[: turn.draft.watch]))
    return [(tokens[turn.slot], by_slot.get(turn.slot)) for turn in turns]

"""A step: a token is drawn for every story whose turn it is. `device_steps` has those that nobody waits for."""

# B turns, V vocabulary

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from storylm.config.errors import CheckpointError
from storylm.generation.draft import Draft, Likelihood, Turn, likelihoods
from storylm.generation.reading import Part, Reader
from storylm.generation.sampling import choose, penalise_repetition

Drawn = list[tuple[int, Likelihood | None]]
"""Of each turn the token, and its likelihood where the draft asks for it."""


class Steps(Protocol):
    """What takes steps. `ahead` says how many to launch before the first is asked for what was drawn."""

    ahead: int

    def launch(self, turns: Sequence[Turn]) -> Callable[[], Drawn]:
        """Take a step, or send it on its way; what comes back waits until it is done, and tells what was drawn.

        Steps are launched in the order in which they are to be taken. No slot has two turns.
        """
        ...


class HostSteps:
    """Steps that are done when `launch` returns: as it is on a CPU."""

    ahead = 0

    def __init__(self, reader: Reader, vocabulary: int, threads: int | None = None):
        """`threads` are those that draw; all of torch's unless given."""
        self._reader, self._vocabulary, self._threads = reader, vocabulary, threads

    def launch(self, turns: Sequence[Turn]) -> Callable[[], Drawn]:
        """See `Steps`."""
        logits_BV = self._reader.read([_unread(turn) for turn in turns])[:, : self._vocabulary]
        # Of a story's first scores only, which tell what is wrong with weights, so that no other step does more.
        if first := [row for row, turn in enumerate(turns) if not turn.count]:
            check_scores(math.isfinite(logits_BV[first].sum().item()))
        drafts = [turn.draft for turn in turns]
        watched = {row: logits_BV[row].clone() for row, draft in enumerate(drafts) if draft.watch is not None}
        for row, draft in enumerate(drafts):
            if draft.sampling.repetition_penalty != 1:
                logits_BV[row] = penalise_repetition(logits_BV[row], *_seen(draft, logits_BV[row]))
        seeds, counts = [draft.seed for draft in drafts], [turn.count for turn in turns]
        tokens = choose(logits_BV, [draft.sampling for draft in drafts], seeds, counts, self._threads).tolist()
        found: list[Likelihood | None] = [None] * len(turns)
        for row, logits_V in watched.items():
            (found[row],) = likelihoods(logits_V[None], [tokens[row]], drafts[row].watch or 0)
        drawn = list(zip(tokens, found, strict=True))
        return lambda: drawn


def check_scores(finite: bool) -> None:
    """Raise `CheckpointError` unless scores are `finite`, as their sum is then: a draw from others means nothing."""
    if not finite:
        raise CheckpointError(
            "the model's scores of the next token are not numbers: its weights are damaged, or training diverged; take "
            "an earlier checkpoint"
        )


def _unread(turn: Turn) -> Part:
    slot, draft, count = turn
    return Part(slot, turn.place, draft.drawn[-1:]) if count else Part(slot, 0, draft.prompt_ids)


def _seen(draft: Draft, logits_V: Tensor) -> tuple[Tensor, float]:
    """Which tokens came before, and the penalty for them."""
    seen_V = torch.zeros_like(logits_V, dtype=torch.bool)
    seen_V[draft.prompt_ids + draft.drawn] = True
    return seen_V, draft.sampling.repetition_penalty

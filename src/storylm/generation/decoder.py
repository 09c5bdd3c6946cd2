"""Stories that grow together, one token each at a time; where one is over, the next takes its place."""

# B stories that grow, V vocabulary

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.generation.reading import Part, Reader
from storylm.generation.sampling import Sampling, choose, penalise_repetition


@dataclass(eq=False)
class Draft:
    """The tokens of a story: its prompt, and what was drawn for it since."""

    prompt_ids: list[int]
    seed: int
    sampling: Sampling
    drawn: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return self.prompt_ids + self.drawn


class Decoder:
    """Continuous batching (Orca, Yu et al. 2022): a step draws a token for every story that has a slot.

    What is drawn for a story depends on nothing but its prompt, seed and settings. `vocabulary` is how many token ids
    there are to draw from: a model may have more rows of embeddings, for the sake of a round number.

    >>> decoder = Decoder(build_reader(model, slots=2, capacity=64), vocabulary=64)      # doctest: +SKIP
    >>> decoder.add(Draft([1, 5, 7], seed=0, sampling=Sampling()))                       # doctest: +SKIP
    >>> for draft, token in decoder.step(): ...                                          # doctest: +SKIP
    """

    def __init__(self, reader: Reader, vocabulary: int):
        self._reader, self._vocabulary = reader, vocabulary
        self._waiting: deque[Draft] = deque()
        self._slots: dict[Draft, int] = {}
        self._free = list(range(reader.slots))[::-1]

    def __len__(self) -> int:
        """Stories that are not over."""
        return len(self._waiting) + len(self._slots)

    def add(self, draft: Draft) -> None:
        """Begin a story as soon as there is a slot.

        Raises:
            UsageError: a prompt of no tokens, too many, or others than the vocabulary's.
        """
        count, capacity = len(draft.prompt_ids), self._reader.capacity
        if not 1 <= count <= capacity:
            raise UsageError(f"a prompt of {count} tokens is not allowed: there is room for 1 to {capacity}")
        if not 0 <= min(draft.prompt_ids) <= max(draft.prompt_ids) < self._vocabulary:
            raise UsageError(f"a prompt has a token that is not from 0 to {self._vocabulary - 1}")
        self._waiting.append(draft)

    def end(self, drafts: Iterable[Draft]) -> None:
        """These are over: nothing more is drawn for them."""
        for draft in drafts:
            if draft in self._slots:
                self._free.append(self._slots.pop(draft))
            else:
                self._waiting.remove(draft)

    def step(self) -> list[tuple[Draft, int]]:
        """The next token of each story that has a slot."""
        parts = [Part(slot, len(draft.ids) - 1, draft.drawn[-1:]) for draft, slot in self._slots.items()]
        while self._waiting and self._free:
            draft = self._waiting.popleft()
            self._slots[draft] = self._free.pop()
            parts.append(Part(self._slots[draft], 0, draft.ids))
        drafts = list(self._slots)
        if not drafts:
            return []
        logits_BV = self._reader.read(parts)[:, : self._vocabulary]
        for row, draft in enumerate(drafts):
            if draft.sampling.repetition_penalty != 1:
                logits_BV[row] = penalise_repetition(logits_BV[row], *_seen(draft, logits_BV[row]))
        counts = [len(draft.drawn) for draft in drafts]
        tokens = choose(logits_BV, [d.sampling for d in drafts], [d.seed for d in drafts], counts).tolist()
        for draft, token in zip(drafts, tokens, strict=True):
            draft.drawn.append(token)
        return list(zip(drafts, tokens, strict=True))


def _seen(draft: Draft, logits_V: Tensor) -> tuple[Tensor, float]:
    """Which tokens came before, and the penalty for them."""
    seen_V = torch.zeros_like(logits_V, dtype=torch.bool)
    seen_V[draft.ids] = True
    return seen_V, draft.sampling.repetition_penalty

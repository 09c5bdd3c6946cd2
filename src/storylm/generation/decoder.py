"""Stories that grow together, one token each at a time; where one is over, the next takes its place."""

# B stories that grow, V vocabulary

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.generation.reading import Part, Reader
from storylm.generation.sampling import Sampling, choose, penalise_repetition


class Likelihood(NamedTuple):
    """How likely the model found a token, in nats, and the likeliest ones in its place, by id."""

    nats: float
    instead: dict[int, float]


@dataclass(eq=False)
class Draft:
    """The tokens of a story: its prompt, and what was drawn for it since.

    `watch` asks for the likelihood of each token drawn, and of so many others; temperature and filters aside.
    """

    prompt_ids: list[int]
    seed: int
    sampling: Sampling
    watch: int | None = None
    drawn: list[int] = field(default_factory=list)
    likelihoods: list[Likelihood] = field(default_factory=list)

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

    @property
    def running(self) -> int:
        """Stories that have a slot."""
        return len(self._slots)

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
        watched = {row: logits_BV[row].clone() for row, draft in enumerate(drafts) if draft.watch is not None}
        for row, draft in enumerate(drafts):
            if draft.sampling.repetition_penalty != 1:
                logits_BV[row] = penalise_repetition(logits_BV[row], *_seen(draft, logits_BV[row]))
        counts = [len(draft.drawn) for draft in drafts]
        tokens = choose(logits_BV, [d.sampling for d in drafts], [d.seed for d in drafts], counts).tolist()
        for draft, token in zip(drafts, tokens, strict=True):
            draft.drawn.append(token)
        for row, logits_V in watched.items():
            draft = drafts[row]
            draft.likelihoods += likelihoods(logits_V[None], [tokens[row]], draft.watch or 0)
        return list(zip(drafts, tokens, strict=True))


def likelihoods(logits_TV: Tensor, tokens_T: Sequence[int], count: int) -> list[Likelihood]:
    """How likely each of the tokens was, given the scores before it, and the `count` likeliest there."""
    logprobs_TV = logits_TV.float().log_softmax(-1)
    nats_T = logprobs_TV.gather(1, torch.tensor(tokens_T, device=logprobs_TV.device)[:, None])[:, 0].tolist()
    top = logprobs_TV.topk(min(count, logprobs_TV.shape[1]))
    instead = [
        dict(zip(ids, values, strict=True))
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    return [Likelihood(nats, others) for nats, others in zip(nats_T, instead, strict=True)]


def _seen(draft: Draft, logits_V: Tensor) -> tuple[Tensor, float]:
    """Which tokens came before, and the penalty for them."""
    seen_V = torch.zeros_like(logits_V, dtype=torch.bool)
    seen_V[draft.ids] = True
    return seen_V, draft.sampling.repetition_penalty

"""A story while it is drawn: its tokens, and how likely they were."""

# T tokens, V vocabulary, K likeliest tokens

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from storylm.generation.sampling import Sampling


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


class Turn(NamedTuple):
    """A story's turn in a step: it has `slot`, and `count` tokens were drawn for it before; at 0 its prompt is new."""

    slot: int
    draft: Draft
    count: int

    @property
    def place(self) -> int:
        """Where in the story the last token before the one to be drawn stands."""
        return len(self.draft.prompt_ids) + self.count - 1


def likelihoods(logits_TV: Tensor, tokens_T: Sequence[int], count: int) -> list[Likelihood]:
    """How likely each of the tokens was, given the scores before it, and the `count` likeliest there."""
    found = likelihood_tensors(logits_TV, torch.tensor(tokens_T, device=logits_TV.device), count)
    return as_likelihoods(*(tensor.tolist() for tensor in found))


def likelihood_tensors(logits_TV: Tensor, tokens_T: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of `likelihoods`, where the scores are: nats [T], and ids and nats of the likeliest [T, K]."""
    logprobs_TV = logits_TV.float().log_softmax(-1)
    top = logprobs_TV.topk(min(count, logprobs_TV.shape[1]))
    return logprobs_TV.gather(1, tokens_T[:, None])[:, 0], top.indices, top.values


def as_likelihoods(nats_T: list[float], ids_TK: list[list[int]], nats_TK: list[list[float]]) -> list[Likelihood]:
    """What `likelihood_tensors` found, once it is here."""
    each = zip(nats_T, ids_TK, nats_TK, strict=True)
    return [Likelihood(nats, dict(zip(ids, others, strict=True))) for nats, ids, others in each]

"""Nats and bytes of every story by itself: what intervals and comparisons of models are made from."""

import math
from typing import Protocol

import numpy as np

from storylm.config.errors import DataError
from storylm.evaluation.bootstrap import Paired, interval, paired_test
from storylm.evaluation.likelihood import Likelihood, Scored
from storylm.evaluation.measure import Measure


class PerStory:
    """A listener of `evaluate` that keeps three numbers a story; their sums are those of its `Likelihood`.

    >>> kept = PerStory(tokenizer.end_id)                                             # doctest: +SKIP
    >>> found = evaluate(model, tokenizer, stories, listeners=[kept])                 # doctest: +SKIP
    >>> kept.measures(found)[0].interval                                              # doctest: +SKIP
    (0.902, 0.926)
    """

    def __init__(self, end_id: int):
        self._end_id = end_id
        self._bytes: list[int] = []
        self._nats, self._tokens = np.zeros(1024), np.zeros(1024, np.int64)

    def story(self, number: int, text: str, scored: str) -> None:
        self._bytes.append(len(scored.encode()))
        if number >= len(self._nats):
            self._nats, self._tokens = (
                np.concatenate([kept, np.zeros_like(kept)]) for kept in (self._nats, self._tokens)
            )

    def tokens(self, scored: Scored) -> None:
        of_text_N = scored.targets != self._end_id
        np.add.at(self._nats, scored.stories, np.where(of_text_N, scored.nats, 0.0))
        np.add.at(self._tokens, scored.stories, of_text_N)

    @property
    def story_nats(self) -> np.ndarray:
        return self._nats[: len(self._bytes)]

    @property
    def story_tokens(self) -> np.ndarray:
        return self._tokens[: len(self._bytes)]

    @property
    def story_bytes(self) -> np.ndarray:
        return np.array(self._bytes)

    def measures(self, likelihood: Likelihood, seed: int = 0) -> list[Measure]:
        """Bits per byte, nats per token and perplexity, each with its interval over stories."""
        by_byte = np.stack([self.story_nats / math.log(2), self.story_bytes], axis=1)
        by_token = np.stack([self.story_nats, self.story_tokens], axis=1)
        nats = interval(by_token, seed=seed)
        perplexities = (math.exp(min(nats[0], 700)), math.exp(min(nats[1], 700)))
        return [
            Measure("bits_per_byte", likelihood.bits_per_byte, "lower", interval(by_byte, seed=seed)),
            Measure("nats_per_token", likelihood.nats_per_token, "lower", nats),
            Measure("perplexity", likelihood.perplexity, "lower", perplexities),
        ]


class Judged(Protocol):
    """Whatever has nats and bytes of every story, [S] each."""

    @property
    def story_nats(self) -> np.ndarray: ...

    @property
    def story_bytes(self) -> np.ndarray: ...


def compare(first: Judged, second: Judged, seed: int = 0) -> Paired:
    """The paired test on the stories of which both models scored the same bytes.

    Models of other contexts score more or less of a long story, unless a stride is given; those are left out.

    Raises:
        DataError: there are none, or the two did not hear of the same stories.
    """
    heard, also = len(first.story_bytes), len(second.story_bytes)
    if heard != also:
        raise DataError(f"{heard} stories against {also}: judge both models by the same")
    alike = first.story_bytes == second.story_bytes
    if not alike.any():
        raise DataError("no story of which both models scored the same: give a stride, so that all is scored")
    return paired_test(first.story_nats[alike], second.story_nats[alike], first.story_bytes[alike], seed)

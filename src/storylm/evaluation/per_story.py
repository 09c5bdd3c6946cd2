"""Nats and bytes of every story by itself: what intervals and comparisons of models are made from."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from storylm.config.errors import DataError
from storylm.evaluation.bootstrap import Paired, interval, paired_test
from storylm.evaluation.likelihood import Likelihood, Scored, seen
from storylm.evaluation.measure import Measure
from storylm.evaluation.text.metric import summed
from storylm.text.tokenizer import Tokenizer


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
        nats = interval(np.stack([self.story_nats, self.story_tokens], axis=1), seed=seed)
        perplexities = None if nats is None else (math.exp(min(nats[0], 700)), math.exp(min(nats[1], 700)))
        return [
            Measure("bits_per_byte", likelihood.bits_per_byte, "lower", self.bits_per_byte(seed=seed).interval),
            Measure("nats_per_token", likelihood.nats_per_token, "lower", nats),
            Measure("perplexity", likelihood.perplexity, "lower", perplexities),
        ]

    def bits_per_byte(self, stories: slice = slice(None), seed: int = 0) -> Measure:
        """That of some of the stories, with its interval over them."""
        sums_S2 = np.stack([self.story_nats / math.log(2), self.story_bytes], axis=1)
        return summed("bits_per_byte", "lower", sums_S2[stories], seed=seed)

    def by_split(self, counts: Mapping[str, int], seed: int = 0) -> dict[str, dict[str, Any]]:
        """Bits per byte of each split and its totals, as JSON's types; of so many stories each, in this order."""
        found, end = {}, 0
        for split, count in counts.items():
            some, end = slice(end, end + count), end + count
            row = self.bits_per_byte(some, seed).to_json()
            found[split] = {
                "bits_per_byte": row["value"],
                "interval": row["interval"],
                "stories": count,
                "nats": float(self.story_nats[some].sum()),
                "tokens": int(self.story_tokens[some].sum()),
                "bytes": int(self.story_bytes[some].sum()),
            }
        return found

    def to_json(self) -> dict[str, list[Any]]:
        """A list for each figure, with a value for every story in their order; null where nothing was scored."""
        bits = zip(self.story_nats / math.log(2), self.story_bytes, strict=True)
        return {
            "bits_per_byte": [float(one / size) if size else None for one, size in bits],
            "nats": self.story_nats.tolist(),
            "tokens": self.story_tokens.tolist(),
            "bytes": self.story_bytes.tolist(),
        }


def comparable(stories: Iterable[str], *seers: tuple[Tokenizer, int]) -> bool:
    """Whether, without a stride, there is a story of which all see the same; each by its tokenizer and context."""
    return any(len({seen(words, story, context) for words, context in seers}) == 1 for story in stories)


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
        raise DataError("no story of which both models scored the same: pass --stride, so that all is scored")
    return paired_test(first.story_nats[alike], second.story_nats[alike], first.story_bytes[alike], seed)

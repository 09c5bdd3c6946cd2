"""Where in stories a model finds it hard: bits per byte of their parts, and how well calibrated it is.

A token's nats are spread evenly over the bytes it stands for, so every byte of every story has its share and parts
can be summed whatever the tokenizer: the parts of one kind add up to the whole. A word has the space before it,
as its tokens do. Kinds of parts, see `text.words` for what a name, a word and speech is:

- by position: bytes since the beginning of the story;
- by the story's length: of stories of so many scored bytes;
- the first sentence, and the rest;
- names; rare words, which are none of the thousand commonest (`text.common_words`) and no names; other words; and what
  is between words;
- speech, and what is told.
"""

# S stories, N tokens, B bytes of one story

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from storylm.evaluation.calibration import Calibration, calibrate, likeliest
from storylm.evaluation.likelihood import Scored
from storylm.model.transformer import Transformer
from storylm.text.common_words import common_words
from storylm.text.tokenizer import Tokenizer
from storylm.text.words import Span, name_spans, sentence_spans, speech_spans, word_spans, words

POSITIONS = (0, 100, 200, 400, 800, 1600)  # bytes; each part is from one to the next
LENGTHS = (0, 400, 800, 1200, 1600)


@dataclass
class Part:
    """Totals of one part of the stories, divided when asked."""

    nats: float = 0.0
    bytes: int = 0

    @property
    def bits_per_byte(self) -> float | None:
        return self.nats / math.log(2) / self.bytes if self.bytes else None

    def add(self, nats_B: np.ndarray) -> None:
        self.nats += float(nats_B.sum())
        self.bytes += len(nats_B)


@dataclass
class Breakdown:
    """Parts by kind and name, and calibration."""

    parts: dict[str, dict[str, Part]]
    calibration: Calibration

    def to_json(self) -> dict[str, Any]:
        parts = {
            kind: {name: {"bits_per_byte": part.bits_per_byte, **vars(part)} for name, part in of_kind.items()}
            for kind, of_kind in self.parts.items()
        }
        return {"parts": parts, "calibration": self.calibration.to_json()}


class Details:
    """A listener of `evaluate`; `breakdown` is asked for after the pass. In memory: the stories, and 17 bytes a token.

    >>> details = Details(model, tokenizer)                                           # doctest: +SKIP
    >>> evaluate(model, tokenizer, stories, listeners=[details])                      # doctest: +SKIP
    >>> details.breakdown().parts["words"]["names"].bits_per_byte                     # doctest: +SKIP
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer):
        self._model, self._tokenizer = model, tokenizer
        self._stories: list[tuple[str, int]] = []  # each with the number of bytes scored
        self._tokens: list[tuple[np.ndarray, ...]] = []

    def story(self, number: int, text: str, scored: str) -> None:
        self._stories.append((text, len(scored.encode())))

    def tokens(self, scored: Scored) -> None:
        kept_N = scored.targets != self._tokenizer.end_id
        hidden_ND = scored.hidden[kept_N.tolist()]
        sure_N, right_N = likeliest(hidden_ND, self._model.head_weight, scored.targets[kept_N])
        order = scored.stories[kept_N].astype(np.int32), scored.places[kept_N].astype(np.int32)
        self._tokens.append((*order, scored.nats[kept_N].astype(np.float32), sure_N, right_N))

    def breakdown(self) -> Breakdown:
        """The sums of all that was heard."""
        stories_N, places_N, nats_N, sure_N, right_N = (
            np.concatenate(kept) for kept in zip(*self._tokens, strict=True)
        )
        ordered_N = nats_N[np.lexsort((places_N, stories_N))].astype(np.float64)
        ends = np.cumsum(np.bincount(stories_N, minlength=len(self._stories)))
        parts: dict[str, dict[str, Part]] = {}
        for (text, size), nats in zip(self._stories, np.split(ordered_N, ends[:-1]), strict=True):
            if size:
                nats_B = spread(text, self._tokenizer.spans([text])[0][: len(nats)], nats, size)
                for kind, name, where in parts_of(text, size):
                    parts.setdefault(kind, {}).setdefault(name, Part()).add(nats_B[where])
        for kind in parts:
            parts[kind] = {name: parts[kind][name] for name in _NAMES[kind] if name in parts[kind]}
        return Breakdown(parts, calibrate(sure_N, right_N))


def spread(text: str, spans_N2: np.ndarray, nats_N: np.ndarray, size: int) -> np.ndarray:
    """Nats of each of the first `size` bytes of a story, [B], from those of its tokens, which stand for `spans_N2`."""
    starts = byte_starts(text)[spans_N2]
    first_N = np.minimum(starts[:, 0], size - 1)
    end_N = np.clip(starts[:, 1], first_N + 1, size)  # an empty span's nats go to the byte that follows
    share_N = nats_N / (end_N - first_N)
    steps = np.zeros(size + 1)
    np.add.at(steps, first_N, share_N)
    np.add.at(steps, end_N, -share_N)
    return np.cumsum(steps)[:size]


def byte_starts(text: str) -> np.ndarray:
    """The byte at which each character begins, and the end."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate(([0], np.cumsum(sizes)))


def parts_of(text: str, size: int) -> Iterator[tuple[str, str, slice | np.ndarray]]:
    """(kind, name, bytes of it) for every part of a story's first `size` bytes."""
    for first, end, name in zip(POSITIONS, (*POSITIONS[1:], size), _NAMES["position"], strict=True):
        if first < size:
            yield "position", name, slice(first, min(end, size))
    yield "length", _NAMES["length"][bisect.bisect_right(LENGTHS, size) - 1], slice(0, size)
    starts = byte_starts(text)
    opening = int(starts[sentence_spans(text)[0][1]]) if text.strip() else size
    yield "sentence", "first", slice(0, min(opening, size))
    yield "sentence", "rest", slice(min(opening, size), size)
    kinds_B = np.zeros(starts[-1], np.int8)
    kinds = _NAMES["words"]
    names = {span[0] for span in name_spans(text)}
    for first, end in word_spans(text):
        kind = (
            "names"
            if first in names
            else "other words"
            if words(text[first:end])[0] in common_words()
            else "rare words"
        )
        space = first > 0 and text[first - 1] == " "
        kinds_B[starts[first - space] : starts[end]] = kinds.index(kind)
    for number, kind in enumerate(kinds):
        yield "words", kind, kinds_B[:size] == number
    speech_B = _marked(starts, speech_spans(text))[:size]
    yield "speech", "speech", speech_B
    yield "speech", "told", ~speech_B


def _marked(starts: np.ndarray, spans: list[Span]) -> np.ndarray:
    marked_B = np.zeros(starts[-1], bool)
    for first, end in spans:
        marked_B[starts[first] : starts[end]] = True
    return marked_B


def _ranges(edges: tuple[int, ...]) -> list[str]:
    return [f"{first}-{end - 1}" for first, end in pairwise(edges)] + [f"{edges[-1]}-"]


_NAMES = {
    "position": _ranges(POSITIONS),
    "length": _ranges(LENGTHS),
    "sentence": ["first", "rest"],
    "words": ["between words", "names", "rare words", "other words"],
    "speech": ["speech", "told"],
}

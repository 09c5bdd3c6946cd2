"""The built-in story grammar: endless, seeded, and with a known entropy to hold a trained model's loss against.

    story(0, 7)          # always the same story, on every machine and Python: bits come from SHAKE-128
    entropy()            # what no model can beat: bits_per_byte is the floor of total bits / total bytes
    information(text)    # nats of one story under the grammar; DataError if it is not of the grammar

A story is a plot, one filler for each of the plot's slots and one alternative for each of its lines, all chosen
independently (a list may depend on another slot's filler). What a story does not mention was not chosen, as far as
its probability is concerned. Words and plots are in `grammar.yaml`, its notation in `grammar_parser.py`.

No story is the beginning of another, so a story's end is certain and an end token adds nothing to the entropy.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import shake_128
from itertools import count as count_from
from math import exp, log
from struct import unpack
from typing import Any

from storylm.config.errors import DataError
from storylm.data.grammar_parser import Filler, Plot, Sentence, Weighted, plots, slot_of


@dataclass(frozen=True)
class Entropy:
    """Exact expectations over the grammar's stories."""

    nats_per_story: float
    bytes_per_story: float

    @property
    def bits_per_byte(self) -> float:
        """Floor of the ratio of totals: expected bits of a story / expected UTF-8 bytes of a story."""
        return self.nats_per_story / log(2) / self.bytes_per_story


def story(seed: int, index: int) -> str:
    """Story number `index` of the corpus `seed`: a pure function, the same for ever.

    >>> story(0, 0) == story(0, 0) != story(0, 1)
    True
    """
    plot, draws = _start(seed, index)
    fillers: dict[str, Filler] = {}
    words: dict[str, str] = {}
    for name in plot.slots:
        fillers[name] = filler = _choices(plot, name, fillers).pick(next(draws))
        words.update(filler.words)
    return "".join([line.pick(draw).template for line, draw in zip(plot.lines, draws, strict=False)]) % words


def stories(seed: int, start: int = 0, count: int | None = None) -> Iterator[str]:
    """Stories `start`, `start + 1`, ... of the corpus `seed`: `count` of them, or without end.

    >>> list(stories(3, start=5, count=2)) == [story(3, 5), story(3, 6)]
    True
    """
    for index in count_from(start) if count is None else range(start, start + count):
        yield story(seed, index)


def information(text: str) -> float:
    """Nats of a story, -ln P(text), by reading it back. Slow beside telling: some milliseconds.

    Raises DataError for a text that the grammar does not tell.
    """
    found = readings(text)
    if not found:
        raise DataError(f"not a story of the built-in grammar: {text[:60]!r}...")
    least = min(found)
    return least - log(sum(exp(least - nats) for nats in found))


def readings(text: str) -> list[float]:
    """Nats of every way in which the grammar tells `text`: one for its stories, none for other texts."""
    return [start + nats for _, start, plot in plots() for nats in _readings(plot, text)]


@cache
def entropy() -> Entropy:
    """Exact, from the grammar alone: choices are independent, so information and bytes add up line by line."""
    nats = sum(p * (information + _measure(plot).nats_per_story) for p, information, plot in plots())
    return Entropy(nats, sum(p * _measure(plot).bytes_per_story for p, _, plot in plots()))


@cache
def _most_draws() -> int:
    return 1 + max(plot.draws for plot in plots().items)


def _start(seed: int, index: int) -> tuple[Plot, Iterator[int]]:
    """A story's plot and its further draws, 64 bits each: enough for the longest plot."""
    size = _most_draws()
    draws = iter(unpack(f"<{size}Q", shake_128(b"%d %d" % (seed, index)).digest(8 * size)))
    return plots().pick(next(draws)), draws


# How far a text was read, the fillers that it showed, and the nats of the choices so far.
_State = tuple[int, dict[str, Filler], float]
_END = ""


def _readings(plot: Plot, text: str) -> list[float]:
    states: list[_State] = [(0, {}, 0.0)]
    for line in plot.lines:
        states = [after for state in states for after in _read(plot, _tree(line), text, state)]
    return [nats for position, _, nats in states if position == len(text)]


@cache
def _tree(line: Weighted[Sentence]) -> dict[str, Any]:
    """A line's alternatives, piece by piece: `_END` after the last one, with the alternative's nats."""
    root: dict[str, Any] = {}
    for _, information, sentence in line:
        node = root
        for piece in sentence.pieces:
            node = node.setdefault(piece, {})
        node[_END] = information
    return root


def _read(plot: Plot, node: dict[str, Any], text: str, state: _State, literal: bool = True) -> Iterator[_State]:
    """All ways to read on from `node` of a line: a slot's first mention may be any filler with fitting words."""
    position, fillers, nats = state
    for piece, after in node.items():
        if literal:
            words = [(piece, fillers, 0.0)]
        elif piece == _END:
            yield position, fillers, nats + after
            continue
        elif (slot := slot_of(piece)) in fillers:
            words = [(fillers[slot].words[piece], fillers, 0.0)]
        else:
            choices = _choices(plot, slot, fillers)
            words = [(filler.words[piece], fillers | {slot: filler}, more) for _, more, filler in choices]
        for word, now, more in words:
            if text.startswith(word, position):
                yield from _read(plot, after, text, (position + len(word), now, nats + more), not literal)


def _choices(plot: Plot, name: str, fillers: dict[str, Filler]) -> Weighted[Filler]:
    """What a slot may hold, given the fillers chosen before it."""
    slot = plot.slots[name]
    return slot.fillers or fillers[slot.parent].lists[name]


def _outcomes(plot: Plot, name: str) -> Iterator[tuple[float, float, Filler]]:
    """Probability, information given the parent's filler, and filler of a slot."""
    slot = plot.slots[name]
    if slot.fillers is not None:
        yield from slot.fillers
        return
    for share, _, filler in _outcomes(plot, slot.parent):
        for p, nats, child in filler.lists[name]:
            yield share * p, nats, child


def _measure(plot: Plot) -> Entropy:
    """Expected nats and bytes of a plot. A slot counts as far as it is mentioned."""
    nats = size = 0.0
    unmentioned = dict.fromkeys(plot.slots, 1.0)
    lengths: defaultdict[str, float] = defaultdict(float)  # expected bytes of each reference
    for name in plot.slots:
        for p, _, filler in _outcomes(plot, name):
            for reference, word in filler.words.items():
                lengths[reference] += p * len(word.encode())
    for line in plot.lines:
        mentioned: defaultdict[str, float] = defaultdict(float)
        for p, information, sentence in line:
            nats += p * information
            size += p * sum(len(literal.encode()) for literal in sentence.literals)
            size += p * sum(lengths[reference] for reference in sentence.references)
            for name in {slot_of(reference) for reference in sentence.references}:
                mentioned[name] += p
        for name, p in mentioned.items():
            unmentioned[name] *= 1 - p
    for name, absent in unmentioned.items():
        nats += (1 - absent) * sum(p * information for p, information, _ in _outcomes(plot, name))
    return Entropy(nats, size)

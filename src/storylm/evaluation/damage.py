"""Real stories, damaged: what a metric of stories must notice. Each damage takes an amount, from 0 (none) to 1."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storylm.text.words import name_spans, sentence_spans

# Written for this: names that stories of this kind use, for people who lose their own.
NAMES = ("Ben", "Mia", "Sam", "Lucy", "Max", "Anna", "Jack", "Sue", "Leo", "Emma", "Nick", "Ella")
_DISAGREEING = {
    "is": "are",
    "are": "is",
    "was": "were",
    "were": "was",
    "has": "have",
    "have": "has",
    "does": "do",
    "do": "does",
}
_AGREEMENT = re.compile(rf"\b({'|'.join(_DISAGREEING)})\b")
_TOKEN = re.compile(r"\S+")


def swap_words(text: str, amount: float, generator: random.Random) -> str:
    """That share of the words changes places with the word that follows."""
    spans = [found.span() for found in _TOKEN.finditer(text)]
    order = list(range(len(spans)))
    pairs = list(range(0, len(spans) - 1, 2))
    for first in generator.sample(pairs, round(amount * len(pairs))):
        order[first], order[first + 1] = order[first + 1], order[first]
    return _reordered(text, spans, order)


def shuffle_sentences(text: str, amount: float, generator: random.Random) -> str:
    """That share of the sentences is dealt out anew among their places."""
    spans = sentence_spans(text)
    places = sorted(generator.sample(range(len(spans)), round(amount * len(spans))))
    order, dealt = list(range(len(spans))), list(places)
    generator.shuffle(dealt)
    for place, sentence in zip(places, dealt, strict=True):
        order[place] = sentence
    return _reordered(text, spans, order)


def break_agreement(text: str, amount: float, generator: random.Random) -> str:
    """That share of is/are, was/were, has/have and do/does becomes the other one."""
    return _AGREEMENT.sub(lambda found: _DISAGREEING[found[0]] if generator.random() < amount else found[0], text)


def swap_names(text: str, amount: float, generator: random.Random) -> str:
    """That share of the mentions of names gets a name from a list."""
    pieces, last = [], 0
    for first, end in name_spans(text):
        name = generator.choice(NAMES) if generator.random() < amount else text[first:end]
        pieces += [text[last:first], name]
        last = end
    return "".join([*pieces, text[last:]])


def repeat_sentences(text: str, amount: float, generator: random.Random) -> str:
    """That share of the sentences is told twice."""
    pieces, last = [], 0
    for first, end in sentence_spans(text):
        pieces.append(text[last:end] + (" " + text[first:end] if generator.random() < amount else ""))
        last = end
    return "".join([*pieces, text[last:]])


def cut_off(text: str, amount: float, generator: random.Random) -> str:
    """That share of the stories stops in the middle of a sentence, in the last third."""
    spans = [found.span() for found in _TOKEN.finditer(text)]
    stops = [end for _, end in spans[len(spans) * 2 // 3 : -1] if text[end - 1].isalpha()]
    return text[: generator.choice(stops)] if stops and generator.random() < amount else text


@dataclass(frozen=True)
class Damage:
    """What is done, and how much of it, from little to much."""

    apply: Callable[[str, float, random.Random], str]
    amounts: tuple[float, ...]
    of_stories: bool = False
    """Whether the amount is a share of the stories, each of which is then damaged or not."""


DAMAGES = {
    "swapped words": Damage(swap_words, (0.05, 0.2, 0.5)),
    "shuffled sentences": Damage(shuffle_sentences, (0.25, 0.5, 1.0)),
    "broken agreement": Damage(break_agreement, (0.2, 0.5, 1.0)),
    "swapped names": Damage(swap_names, (0.1, 0.3, 1.0)),
    "repeated sentences": Damage(repeat_sentences, (0.05, 0.2, 0.5)),
    "cut off": Damage(cut_off, (0.2, 0.5, 1.0), of_stories=True),
}


def damaged(stories: Sequence[str], kind: str, amount: float, seed: int = 0) -> list[str]:
    """Every story, damaged; the same for the same seed.

    >>> damaged(["He is sad."], "broken agreement", 1.0)
    ['He are sad.']
    """
    generator = random.Random(f"{seed} {kind} {amount}")
    return [DAMAGES[kind].apply(story, amount, generator) for story in stories]


def _reordered(text: str, spans: Sequence[tuple[int, int]], order: Sequence[int]) -> str:
    """The pieces at `spans` in another order, what is between them where it was."""
    pieces, last = [], 0
    for (first, end), other in zip(spans, order, strict=True):
        pieces += [text[last:first], text[slice(*spans[other])]]
        last = end
    return "".join([*pieces, text[last:]])

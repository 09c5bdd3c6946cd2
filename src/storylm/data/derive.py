"""Orders made from stories that came without: what a story turns out to have is what it was asked to have.

There is no tagger of parts of speech here, and none is needed: places that only one kind of word can have are enough to
draw one from.

verb        after can, could, will, would, let's, did not, or a verb that wants another ("wanted to play")
noun        after an article or a possessive, with at most one word between, where the phrase ends
adjective   that word between; or after is, was, are, were, felt, very, so where the clause ends

A word is of at least three small letters, so names are none. The sentence is any one of the story's, and features are
those that a rule can see: someone speaks; a lesson is learned. Summaries take a reader: there are none. As in
TinyStories-Instruct, of what a story offers each order has some: every line with probability 1/2, but at least one.
"""

import random
import re
from collections.abc import Callable

from storylm.data.instruct import Order
from storylm.text.words import sentences, speech_spans

_SHARE = 0.5
_MORAL = re.compile(r"\b(moral|lesson|learn(ed|t|s)?|from then on|from that day)\b", re.IGNORECASE)


def has_speech(story: str) -> bool:
    """Whether someone says something.

    >>> has_speech('"Stop!" said Tom.'), has_speech("Tom said stop.")
    (True, False)
    """
    return any(end - first > 2 for first, end in speech_spans(story))


def has_moral(story: str) -> bool:
    """Whether words of a lesson stand in it: a rough sign.

    >>> has_moral("From that day on, he shared."), has_moral("He shared.")
    (True, False)
    """
    return _MORAL.search(story) is not None


FEATURE_RULES: dict[str, Callable[[str], bool]] = {"Dialogue": has_speech, "MoralValue": has_moral}
"""Those of `instruct.FEATURES` that code can see."""

_FUNCTION = (
    "the|and|but|was|were|are|had|has|have|not|with|that|this|they|them|then|there|when|who|what|for|from|his|her|him|she|"
    "you|your|out|all|too|very|one|two|its|our|their|some|any|more|other|own|same|can|could|will|would|about|again|into|"
    "onto|over|under|after|before|because|even|never|always|just|now|back|down|off|here|how|where|why|did|does|said|time|"
    "lot"
)
# So that "the dog barked." is neither a barked nor something dog.
_PAST = (
    "[a-z]+ed|ran|sat|went|came|saw|got|felt|took|made|ate|gave|fell|flew|found|left|stood|told|held|kept|knew|began|"
    "heard|became|put|let|swam|sang|slept|woke|spoke|broke|grew|threw|hid|lay"
)
_FOLLOWING = (
    "and|or|but|was|were|is|are|had|has|who|that|which|with|in|on|at|of|to|for|from|so|because|said|when|as|while"
)
_WORD = rf"(?!(?:{_FUNCTION})\b)([a-z]{{3,}})"
_DETERMINER = r"\b(?:a|an|the|his|her|their|my|your|our)\s"
_NOT_PAST = rf"(?!(?:{_PAST})\b)"
_END = rf"(?=[.,!?;:]|\s(?:{_FOLLOWING})\b)"
_CLAUSE_END = r"(?=[.,!?;:]|\s(?:and|but|that|because|when|to)\b)"
_PLACES = {
    "verb": [
        rf"\b(?:want|start|beg[au]n|decid|lov|lik|tri|try|need|hop|learn|help|abl)\w*\sto\s{_WORD}\b",
        rf"\b(?:can|could|will|would|let['’]s|did\snot|didn['’]t|do\snot|don['’]t)\s{_WORD}\b",
    ],
    "noun": [rf"{_DETERMINER}(?:[a-z]+\s)?{_NOT_PAST}{_WORD}{_END}"],
    "adjective": [
        rf"{_DETERMINER}{_WORD}\s{_NOT_PAST}[a-z]{{3,}}{_END}",
        rf"\b(?:is|was|are|were|felt|very|so)\s{_WORD}{_CLAUSE_END}",
    ],
}
_KINDS = {kind: re.compile("|".join(patterns)) for kind, patterns in _PLACES.items()}


def candidates(story: str) -> dict[str, list[str]]:
    """The words of each kind that a story has, in order, each once.

    >>> candidates("The big dog wanted to play. He was happy.")
    {'verb': ['play'], 'noun': ['dog'], 'adjective': ['happy']}
    """
    found: dict[str, list[str]] = {}
    for kind, pattern in _KINDS.items():
        drawn = (next(filter(None, match.groups())) for match in pattern.finditer(story))
        before = {word for words in found.values() for word in words}  # each word is of one kind
        found[kind] = list(dict.fromkeys(word for word in drawn if word not in before))
    return found


def derived(story: str, seed: int = 0) -> Order:
    """An order that the story fulfils: a function of the story and the seed.

    >>> derived("The big dog wanted to play. He was happy.", seed=0) == derived(
    ...     "The big dog wanted to play. He was happy.", seed=0
    ... )
    True
    """
    generator = random.Random(f"{seed} {story}")  # seeded by a hash that is the same on every machine
    words = [generator.choice(of_kind) for of_kind in candidates(story).values() if of_kind]
    generator.shuffle(words)
    offered = {
        "words": tuple(dict.fromkeys(words)),
        "features": tuple(name for name, rule in FEATURE_RULES.items() if rule(story)),
        "sentence": " ".join(generator.choice(sentences(story) or [""]).split()),
    }
    there = [name for name, value in offered.items() if value]
    chosen = [name for name in there if generator.random() < _SHARE] or generator.sample(there, min(1, len(there)))
    return Order(**{name: offered[name] for name in chosen})

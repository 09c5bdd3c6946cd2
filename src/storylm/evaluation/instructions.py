"""Stories to order, as TinyStories-Instruct has them (Eldan and Li 2023): words, a sentence, features, a summary.

Code can check whether words are used (in any form: `text.inflection`), the sentence stands in the story, whole and by
itself, someone speaks, and, roughly, whether there is a moral. A twist, a conflict, a bad ending and a summary take a
reader: they are asked for, and not counted here.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from storylm.data.derive import FEATURE_RULES
from storylm.data.instruct import Order
from storylm.evaluation.bootstrap import counted
from storylm.evaluation.measure import Measure
from storylm.evaluation.suites import read_prompts
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.model.transformer import Transformer
from storylm.text.inflection import forms
from storylm.text.tokenizer import Tokenizer
from storylm.text.words import sentences, words

_SHOWN_AS = {"Dialogue": "dialogue", "MoralValue": "moral"}


class Instruction(Order):
    """What a story should have, and how much of that it has."""

    def check(self, story: str) -> dict[str, bool]:
        """What code can check, by name.

        >>> Instruction(words=("jump",), features=("Dialogue",)).check("The frog jumped.")
        {'word jump': True, 'dialogue': False}
        """
        used = set(words(story))
        found = {f"word {word}": bool(used & forms(word.lower())) for word in self.words}
        if self.sentence is not None:
            found["sentence"] = _stands_in(self.sentence, story)
        for feature, name in _SHOWN_AS.items():
            if feature in self.features:
                found[name] = FEATURE_RULES[feature](story)
        return found


@cache
def instructions() -> tuple[Instruction, ...]:
    """Those of `prompts/instruct.yaml`."""
    rows = read_prompts("instruct")["instructions"]
    return tuple(
        Instruction(
            tuple(row.get("words", ())), tuple(row.get("features", ())), row.get("sentence"), row.get("summary")
        )
        for row in rows
    )


def beginnings() -> list[str]:
    """Fifty beginnings of stories, for a model to go on."""
    return read_prompts("beginnings")["beginnings"]


def follow(model: Transformer, tokenizer: Tokenizer, seed: int = 0, max_new_tokens: int = 256) -> list[str]:
    """The story that the model tells to each instruction."""
    prompts = [one.prompt for one in instructions()]
    stories = tell(model, tokenizer, prompts, Sampling(), seed=seed, max_new_tokens=max_new_tokens, truncate="left")
    return [story.told for story in stories]


def measures(stories: Sequence[str], ordered: Sequence[Instruction], seed: int = 0) -> list[Measure]:
    """The share of each kind of wish that was met, over all orders that have it; orders are what intervals are over."""
    met: dict[str, list[tuple[int, int]]] = {}
    for story, order in zip(stories, ordered, strict=True):
        kinds: dict[str, list[bool]] = {}
        for name, holds in order.check(story).items():
            kinds.setdefault(f"instruct_{name.split()[0]}", []).append(holds)
        for name, kept in kinds.items():
            met.setdefault(name, []).append((sum(kept), len(kept)))
    return [counted(name, np.array(rows), seed=seed) for name, rows in met.items()]


def _stands_in(sentence: str, story: str) -> bool:
    """Whether the sentence's words, and no others, are what stands between two ends of the story's sentences.

    >>> _stands_in("He sat.", "It rained. He sat!"), _stands_in("He sat.", "She sat. He sat down.")
    (True, False)
    """
    wanted, found, ends = words(sentence), [], {0}
    for one in sentences(story):
        found += words(one)
        ends.add(len(found))
    return any(found[end : end + len(wanted)] == wanted and end + len(wanted) in ends for end in ends)

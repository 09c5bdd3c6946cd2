"""Stories to order, as TinyStories-Instruct has them (Eldan and Li 2023): words, a sentence, features, a summary.

Code can check whether words are used (in any form: "jumped" is "jump"), the sentence stands in the story, someone
speaks, and, roughly, whether there is a moral. A twist, a conflict, a bad ending and a summary take a reader: they
are asked for, and not counted here.
"""

from collections.abc import Sequence
from functools import cache

from storylm.data.derive import FEATURE_RULES
from storylm.data.instruct import Order
from storylm.evaluation.bootstrap import wilson
from storylm.evaluation.measure import Measure
from storylm.evaluation.suites import read_prompts
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.text.words import words

_SHOWN_AS = {"Dialogue": "dialogue", "MoralValue": "moral"}
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "er", "est", "ly", "n", "en", "y", "'s")
_IRREGULAR = {
    "buy": {"bought"},
    "forget": {"forgot", "forgotten"},
    "hold": {"held"},
    "sleep": {"slept", "asleep"},
    "win": {"won"},
    "lost": {"lose", "loses", "losing"},
}


class Instruction(Order):
    """What a story should have, and how much of that it has."""

    def check(self, story: str) -> dict[str, bool]:
        """What code can check, by name.

        >>> Instruction(words=("jump",), features=("Dialogue",)).check("The frog jumped.")
        {'word jump': True, 'dialogue': False}
        """
        used = set(words(story))
        found = {f"word {word}": bool(used & _forms(word)) for word in self.words}
        if self.sentence is not None:
            found["sentence"] = " ".join(words(self.sentence)) in " ".join(words(story))
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


def measures(stories: Sequence[str], ordered: Sequence[Instruction]) -> list[Measure]:
    """The share of each kind of wish that was met, over all instructions that have it, with Wilson intervals."""
    met: dict[str, list[bool]] = {}
    for story, order in zip(stories, ordered, strict=True):
        for name, holds in order.check(story).items():
            met.setdefault(f"instruct_{name.split()[0]}", []).append(holds)
    return [Measure(name, sum(kept) / len(kept), "higher", wilson(sum(kept), len(kept))) for name, kept in met.items()]


def _forms(word: str) -> set[str]:
    """How a word may stand in a story: with endings, the last letter doubled, or without its last e or y."""
    stems = {word, word + word[-1], word[:-1] + "i"} | ({word[:-1]} if word[-1] == "e" else set())
    return {stem + ending for stem in stems for ending in _ENDINGS} | _IRREGULAR.get(word, set())

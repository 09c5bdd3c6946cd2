"""Stories to order, as TinyStories-Instruct has them (Eldan and Li 2023): words, a sentence, features, a summary.

Code can check whether words are used (in any form: "jumped" is "jump"), the sentence stands in the story, someone
speaks, and, roughly, whether there is a moral. A twist, a conflict, a bad ending and a summary take a reader: they
are asked for, and not counted here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from storylm.evaluation.bootstrap import wilson
from storylm.evaluation.measure import Measure
from storylm.evaluation.suites import read_prompts
from storylm.evaluation.text.words import speech_spans, words
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

FEATURES = ("Dialogue", "MoralValue", "Twist", "BadEnding", "Conflict", "Foreshadowing")
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "er", "est", "ly", "n", "en", "y", "'s")
_IRREGULAR = {
    "buy": {"bought"},
    "forget": {"forgot", "forgotten"},
    "hold": {"held"},
    "sleep": {"slept", "asleep"},
    "win": {"won"},
    "lost": {"lose", "loses", "losing"},
}
_MORAL = re.compile(r"\b(moral|lesson|learn(ed|t|s)?|from then on|from that day)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """What a story should have."""

    words: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sentence: str | None = None
    summary: str | None = None

    @property
    def prompt(self) -> str:
        """As the data set has it; the story follows."""
        lines = {
            "Features": ", ".join(self.features),
            "Words": ", ".join(self.words),
            "Summary": self.summary,
            "Random sentence": self.sentence,
        }
        return "".join(f"{name}: {text}\n" for name, text in lines.items() if text) + "Story: \n\n"

    def check(self, story: str) -> dict[str, bool]:
        """What code can check, by name.

        >>> Instruction(words=("jump",), features=("Dialogue",)).check("The frog jumped.")
        {'word jump': True, 'dialogue': False}
        """
        used = set(words(story))
        found = {f"word {word}": bool(used & _forms(word)) for word in self.words}
        if self.sentence is not None:
            found["sentence"] = " ".join(words(self.sentence)) in " ".join(words(story))
        if "Dialogue" in self.features:
            found["dialogue"] = any(end - first > 2 for first, end in speech_spans(story))
        if "MoralValue" in self.features:
            found["moral"] = _MORAL.search(story) is not None
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

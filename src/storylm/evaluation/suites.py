"""Prompt suites: does a model know how a sentence must go on?

A group of items has one list of continuations, and for each of them a beginning that it alone fits. So every
continuation is as often right as wrong, and whoever looks only at continuations (the shortest, the likeliest by
itself) is exactly at chance. An item is right if the model gives its continuation more probability per byte than each
of the others; per token is reported beside it. By contrast, what is compared is how much a beginning adds: a
continuation's nats less their mean over the group's beginnings, so that one that is likely everywhere wins nowhere
(the idea of Holtzman et al. 2021; small models are above chance by it first). Freely, the model goes on by itself,
always by the likeliest token, and counts as right if its first sentence has a word of the right continuation that no
other one has, and none of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from storylm.config import plain_yaml
from storylm.config.errors import UsageError
from storylm.evaluation.bootstrap import wilson
from storylm.evaluation.likelihood import Scored, evaluate
from storylm.evaluation.measure import Measure
from storylm.evaluation.text.words import sentences, words
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

SUITES = ("facts", "reasoning", "context")
_FREE_CHARACTERS = 60  # about the longest free continuation that is looked at


@dataclass(frozen=True)
class Item:
    """A beginning and its possible continuations, of which `right` is the number of the right one."""

    beginning: str
    continuations: tuple[str, ...]
    right: int
    group: int = 0
    """Items of one group have the same continuations."""

    @property
    def tells(self) -> tuple[frozenset[str], ...]:
        """The words of each continuation that no other one has."""
        each = [set(words(text)) for text in self.continuations]
        return tuple(
            frozenset(own - set().union(*(each[j] for j in range(len(each)) if j != i))) for i, own in enumerate(each)
        )

    def is_told(self, free: str) -> bool:
        """Whether a free continuation is right: see the top of the file.

        >>> Item("The sky was", ("blue.", "green."), 0).is_told(" blue and wide. The grass was green.")
        True
        """
        found = set(words((sentences(free) or [""])[0]))
        return [bool(found & own) for own in self.tells] == [i == self.right for i in range(len(self.continuations))]


@dataclass(frozen=True)
class Suite:
    """Items of one kind."""

    name: str
    about: str
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """The share of items that guessing gets right."""
        return sum(1 / len(item.continuations) for item in self.items) / len(self.items)


def read_prompts(name: str) -> dict[str, Any]:
    """The content of one of the YAML files in `evaluation/prompts`."""
    return plain_yaml.load((files("storylm.evaluation") / "prompts" / f"{name}.yaml").read_text(encoding="utf-8"))


@cache
def load_suite(name: str) -> Suite:
    """One of the suites of `SUITES`.

    >>> load_suite("facts").items[0].continuations
    ('her nose.', 'her eyes.', 'her ears.', 'her hands.')

    Raises:
        UsageError: there is no such suite.
    """
    if name not in SUITES:
        raise UsageError(f"no prompt suite {name!r}: there are {', '.join(SUITES)}")
    content = read_prompts(name)
    items = [
        Item(beginning, tuple(group["options"]), right, number)
        for number, group in enumerate(content["groups"])
        for right, beginning in enumerate(group["beginnings"])
    ]
    return Suite(name, content["about"], tuple(items))


@dataclass(frozen=True)
class Answer:
    """What a model made of an item: nats of each continuation, and what it said freely."""

    item: Item
    nats_per_byte: tuple[float, ...]
    nats_per_token: tuple[float, ...]
    contrast: tuple[float, ...]
    """Nats per byte, less their mean over the beginnings of the group."""
    free: str

    def to_json(self) -> dict[str, Any]:
        """The item, what the model gave each continuation, and what it said."""
        return {
            "beginning": self.item.beginning,
            "continuations": list(self.item.continuations),
            "right": self.item.right,
            "nats_per_byte": list(self.nats_per_byte),
            "nats_per_token": list(self.nats_per_token),
            "contrast": list(self.contrast),
            "free": self.free,
            "told": self.told,
        }

    @property
    def right(self) -> bool:
        return int(np.argmin(self.nats_per_byte)) == self.item.right

    @property
    def right_per_token(self) -> bool:
        return int(np.argmin(self.nats_per_token)) == self.item.right

    @property
    def right_by_contrast(self) -> bool:
        return int(np.argmin(self.contrast)) == self.item.right

    @property
    def told(self) -> bool:
        return self.item.is_told(self.free)


def ask(model: Transformer, tokenizer: Tokenizer, suite: Suite) -> list[Answer]:
    """The model's answer to every item."""
    pairs = [(item.beginning, text) for item in suite.items for text in item.continuations]
    nats_P2 = continuation_nats(model, tokenizer, pairs)
    prompts = [item.beginning.removesuffix(" ") for item in suite.items]
    free = tell(model, tokenizer, prompts, Sampling(temperature=0), max_new_tokens=_FREE_CHARACTERS, truncate="left")
    of_item = np.split(nats_P2, np.cumsum([len(item.continuations) for item in suite.items])[:-1])
    usual = {
        group: np.mean(
            [rows[:, 0] for item, rows in zip(suite.items, of_item, strict=True) if item.group == group], axis=0
        )
        for group in {item.group for item in suite.items}
    }
    return [
        Answer(item, _tuple(rows[:, 0]), _tuple(rows[:, 1]), _tuple(rows[:, 0] - usual[item.group]), story.told)
        for item, rows, story in zip(suite.items, of_item, free, strict=True)
    ]


def _tuple(row: np.ndarray) -> tuple[float, ...]:
    return tuple(row.tolist())


def continuation_nats(model: Transformer, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Nats per byte and per token of each (beginning, continuation), the space between them included: [P, 2].

    The two are cut into tokens as one text; a continuation's tokens are those that stand for some of it. What does
    not fit the model's context is read in windows that move by half of it.
    """
    texts = [f"{beginning} {text}" for beginning, text in pairs]
    firsts = [
        int(np.searchsorted(spans[:, 1], len(beginning), side="right"))  # token spans end in order
        for (beginning, _), spans in zip(pairs, tokenizer.spans(texts), strict=True)
    ]
    heard = _Continuations(np.array(firsts), tokenizer.end_id)
    evaluate(model, tokenizer, texts, stride=max(1, model.config.context // 2), listeners=[heard])
    bytes_P = np.array([len(f" {text}".encode()) for _, text in pairs])
    return np.stack([heard.nats / bytes_P, heard.nats / heard.counts], axis=1)


class _Continuations:
    """A listener that sums what comes from each text's token number `firsts` on."""

    def __init__(self, firsts: np.ndarray, end_id: int):
        self._firsts, self._end_id = firsts, end_id
        self.nats, self.counts = np.zeros(len(firsts)), np.zeros(len(firsts), np.int64)

    def story(self, number: int, text: str, scored: str) -> None:
        pass

    def tokens(self, scored: Scored) -> None:
        kept = (scored.places >= self._firsts[scored.stories]) & (scored.targets != self._end_id)
        np.add.at(self.nats, scored.stories[kept], scored.nats[kept])
        np.add.at(self.counts, scored.stories[kept], 1)


def measures(suite: Suite, answers: Sequence[Answer]) -> list[Measure]:
    """Accuracy per byte, per token, by contrast and freely, with Wilson intervals; chance is the reference."""
    kinds = {
        "accuracy": "right",
        "accuracy_per_token": "right_per_token",
        "accuracy_by_contrast": "right_by_contrast",
        "told": "told",
    }
    return [
        Measure(
            f"{suite.name}_{name}",
            (right := sum(getattr(answer, kind) for answer in answers)) / len(answers),
            "higher",
            wilson(right, len(answers)),
            None if kind == "told" else suite.chance,
        )
        for name, kind in kinds.items()
    ]

"""Prompt suites: does a model know how a sentence must go on?

A group of items has one list of continuations, and for each of them a beginning that it alone fits. So every
continuation is as often right as wrong, and whoever looks only at continuations (the shortest, the likeliest by
itself) is exactly at chance. An item is right if the model gives its continuation more probability per byte than each
of the others; per token is reported beside it. By contrast, what is compared is how much a beginning adds: a
continuation's nats less their mean over the group's beginnings, so that one that is likely everywhere wins nowhere
(the idea of Holtzman et al. 2021; small models are above chance by it first). Freely, the model goes on by itself,
always by the likeliest token, and counts as right if its first sentence has the key word of the right continuation, and
no other one's: its last word, unless the suite names others ("thanks thank": either).
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from storylm.config import plain_yaml
from storylm.config.errors import UsageError
from storylm.text.words import sentences, words

SUITES = ("facts", "reasoning", "context")


@dataclass(frozen=True)
class Item:
    """A beginning and its possible continuations, of which `right` is the number of the right one."""

    beginning: str
    continuations: tuple[str, ...]
    right: int
    group: int = 0
    """Items of one group have the same continuations."""
    named: tuple[str, ...] = ()
    """The key words of each continuation, with spaces between, where they are not its last word."""

    @property
    def keys(self) -> tuple[frozenset[str], ...]:
        """What each continuation is known by in free text."""
        named = self.named or [words(text)[-1] for text in self.continuations]
        return tuple(frozenset(of_one.split()) for of_one in named)

    def is_told(self, free: str) -> bool:
        """Whether a free continuation is right: see the top of the file.

        >>> Item("The sky was", ("blue.", "green."), 0).is_told(" blue and wide. The grass was green.")
        True
        """
        found = set(words((sentences(free) or [""])[0]))
        return [bool(found & own) for own in self.keys] == [i == self.right for i in range(len(self.continuations))]


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
        Item(beginning, tuple(group["options"]), right, number, tuple(group.get("keys", ())))
        for number, group in enumerate(content["groups"])
        for right, beginning in enumerate(group["beginnings"])
    ]
    return Suite(name, content["about"], tuple(items))

"""How `grammar.yaml` becomes plots that can be told, read back and measured.

    [a|3*b|]         one of: "a" (weight 1), "b" (weight 3), nothing (weight 1); may be nested
    {hero}           the slot's name; `{hero.kind}` another column; `{toy.a}` "a ball" or "an umbrella";
                     `{hero.he}`, `.him`, `.his`, `.himself` by the column `is`; `{hero.He}`, `{Helper}` capitalised
    <opening>        a template of `parts`
    hero spot=place.spots helper=family      a plot's slots: each a table, or a list in the row chosen for another slot

A slot is chosen once a story, so that names, things and causes recur. Every line of a plot is a sentence (a deeper
indented one goes on with it; an empty one starts a paragraph) and is spelled out into all its alternatives, which
keeps the three users simple: telling picks one alternative a line, reading tries them all, measuring sums over them.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from itertools import accumulate
from math import lcm, log
from typing import Any, Generic, TypeVar

import yaml

PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
}
T = TypeVar("T")


class Weighted(Generic[T]):
    """Items to choose from, with whole numbers as weights.

    >>> Weighted([("a", 1), ("b", 3)]).pick(1 << 62), Weighted([("a", 1), ("b", 3)]).nats[0] == log(4)
    ('b', True)
    """

    def __init__(self, pairs: list[tuple[T, int]]):
        self.items = [item for item, _ in pairs]
        self.ends = list(accumulate(weight for _, weight in pairs))
        self.total = self.ends[-1]
        self.probabilities = [weight / self.total for _, weight in pairs]
        self.nats = [log(self.total / weight) for _, weight in pairs]

    def pick(self, draw: int) -> T:
        """The item at `draw`, one of 2^64 equally likely numbers."""
        return self.items[bisect_right(self.ends, draw * self.total >> 64)]

    def __iter__(self) -> Iterator[tuple[float, float, T]]:
        """Probability, information in nats, item."""
        return zip(self.probabilities, self.nats, self.items, strict=True)


@dataclass(frozen=True, eq=False, slots=True)
class Filler:
    """One choice for a slot: the words that each reference to it becomes, and the lists that depend on it."""

    words: dict[str, str]
    lists: dict[str, "Weighted[Filler]"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Its fillers, or the slot on whose filler they depend."""

    fillers: Weighted[Filler] | None
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One alternative of a line: `template` for `%`, and the same as literals and references in turn."""

    template: str
    pieces: tuple[str, ...]

    @property
    def literals(self) -> tuple[str, ...]:
        return self.pieces[::2]

    @property
    def references(self) -> tuple[str, ...]:
        return self.pieces[1::2]


@dataclass(frozen=True, slots=True)
class Plot:
    name: str
    slots: dict[str, Slot]
    lines: list[Weighted[Sentence]]

    @property
    def draws(self) -> int:
        return len(self.slots) + len(self.lines)


@cache
def slot_of(reference: str) -> str:
    """The slot that a reference speaks of.

    >>> slot_of("hero.He"), slot_of("Helper")
    ('hero', 'helper')
    """
    return reference.split(".")[0].lower()


def alternatives(template: str) -> dict[str, Fraction]:
    """Every text a template stands for, with its probability.

    >>> {text: str(share) for text, share in alternatives("so [3*sad|[very |]mad].").items()}
    {'so sad.': '3/4', 'so very mad.': '1/8', 'so mad.': '1/8'}
    """
    tokens = iter(re.split(r"([\[|\]])", template + "]"))
    found = _options(tokens)
    assert not "".join(tokens), f"unbalanced brackets: {template}"
    return found


def _options(tokens: Iterator[str]) -> dict[str, Fraction]:
    """The texts between an opening bracket, already read, and its closing one."""
    options: list[tuple[int, dict[str, Fraction]]] = []
    texts, weight = {"": Fraction(1)}, 1
    for token in tokens:
        if token == "[":
            inner = _options(tokens)
            texts = {text + end: p * q for text, p in texts.items() for end, q in inner.items()}
        elif token in ("|", "]"):
            options.append((weight, texts))
            if token == "]":
                break
            texts, weight = {"": Fraction(1)}, 1
        else:
            if list(texts) == [""] and (prefix := re.match(r"(\d+)\*", token)):
                weight, token = int(prefix[1]), token[prefix.end() :]
            texts = {text + token: p for text, p in texts.items()}
    else:
        raise AssertionError("a bracket is not closed")
    total, found = sum(weight for weight, _ in options), {}
    for weight, texts in options:
        for text, p in texts.items():
            found[text] = found.get(text, Fraction(0)) + p * Fraction(weight, total)
    return found


def _sentence(text: str) -> Sentence:
    pieces = re.split(r"\{([\w.]+)\}", text.replace("%", "%%"))
    template = "".join(f"%({piece})s" if i % 2 else piece for i, piece in enumerate(pieces))
    return Sentence(template, tuple(pieces))


@cache  # most plots share their parts
def _line(template: str, start: str) -> Weighted[Sentence]:
    """A sentence's alternatives, each after `start`; an optional sentence that is left out leaves no space."""
    shares = alternatives(template)
    scale = lcm(*(share.denominator for share in shares.values()))
    assert start != "\n" or "" not in shares, f"a paragraph must start: {template}"
    return Weighted([(_sentence(text and start + text), int(share * scale)) for text, share in shares.items()])


def _rows(table: str) -> list[dict[str, str]]:
    """A table of `|` between columns; the first line names them."""
    head, *rows = ([cell.strip() for cell in line.split("|")] for line in table.strip().splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def _word(row: dict[str, str], field: str) -> str:
    """What `{slot.field}` becomes."""
    if field[0].isupper():
        word = _word(row, field[0].lower() + field[1:])
        return word[0].upper() + word[1:]
    if field == "a":
        return ("an " if row["name"][0].lower() in "aeiou" else "a ") + row["name"]
    return row[field] if field in row else PRONOUNS[row["is"]][field]


def _fillers(slot: str, rows: list[dict[str, str]], references: set[str], children: dict[str, str]) -> Weighted[Filler]:
    """`children`: the columns that hold other slots' lists, by slot."""

    def filler(row: dict[str, str]) -> Filler:
        words = {}
        for reference in references:
            if slot_of(reference) == slot:
                _, _, field = reference.partition(".")
                words[reference] = _word(row, field or ("Name" if reference[0].isupper() else "name"))
        lists = {}
        for child, column in children.items():
            lists[child] = _fillers(child, [{"name": name.strip()} for name in row[column].split(";")], references, {})
        return Filler(words, lists)

    return Weighted([(filler(row), int(row.get("weight", 1))) for row in rows])


def _plot(name: str, slots: str, story: str, tables: dict[str, str], parts: dict[str, str]) -> Plot:
    while used := re.search(r"<(\w+)>", story):
        story = story.replace(used[0], parts[used[1]].strip().replace("\n", "\n "))
    story = re.sub(r"(?<=[\[|])\n +|\n +(?=[|\]])", "", story)
    story = re.sub(r"\n +", " ", story)
    lines = []
    for paragraph in story.strip().split("\n\n"):
        start = "\n" if lines else ""
        for template in paragraph.splitlines():
            lines.append(_line(template, start))
            start = " "
    references = {reference for line in lines for sentence in line.items for reference in sentence.references}
    sources = {slot.split("=")[0]: slot.split("=")[-1] for slot in slots.split()}
    assert set(sources) == {slot_of(reference) for reference in references}, f"slots of {name} not as used"
    found = {}
    for slot, source in sources.items():
        children = {child: of.split(".")[1] for child, of in sources.items() if of.startswith(slot + ".")}
        parent = source.split(".")[0] if "." in source else ""
        found[slot] = Slot(None if parent else _fillers(slot, _rows(tables[source]), references, children), parent)
        assert not parent or _always_before(parent, slot, lines), f"{name}: {slot} before {parent}"
    return Plot(name, found, lines)


def _always_before(parent: str, child: str, lines: list[Weighted[Sentence]]) -> bool:
    """Whether every story has told a slot's filler before it tells what depends on it: reading needs that."""
    told = [[{slot_of(reference) for reference in sentence.references} for sentence in line.items] for line in lines]
    first = next(i for i, line in enumerate(told) if any(child in slots for slots in line))
    return any(all(parent in slots for slots in line) for line in told[:first])


@cache
def plots() -> Weighted[Plot]:
    """The plots of `grammar.yaml`, read once a process."""
    text = resources.files("storylm.data").joinpath("grammar.yaml").read_text(encoding="utf-8")
    return read_grammar(yaml.safe_load(text))


def read_grammar(data: dict[str, Any]) -> Weighted[Plot]:
    """The plots of a grammar: its `parts`, `tables`, `slots` of every plot and `plots`."""
    found = []
    for name, plot in data["plots"].items():
        slots = f"{data['slots']} {plot['slots']}"
        found.append((_plot(name, slots, plot["story"], data["tables"], data["parts"]), plot["weight"]))
    return Weighted(found)

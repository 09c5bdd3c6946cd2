"""The same stories told by several models, for a terminal of any width."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from storylm.cli.stories import printable

COLUMN = 36  # the narrowest column in which a story is pleasant to read


def side_by_side(models: list[str], told: list[list[str]], facts: list[str], width: int) -> RenderableType:
    """The stories [models][prompts] and what is to be said of each model; in columns where `width` letters allow it."""
    return (_columns if width >= COLUMN * len(models) else _one_after_another)(models, told, facts)


def _columns(models: list[str], told: list[list[str]], facts: list[str]) -> RenderableType:
    """A column for each model; a row for each prompt, and one for the facts."""
    columns = (Column(Text(name), ratio=1) for name in models)  # all as wide
    table = Table(*columns, box=SIMPLE_HEAD, expand=True, show_lines=True)
    for stories in zip(*told, strict=True):
        table.add_row(*(Text(printable(story)) for story in stories))
    table.add_row(*(Text(lines, style="dim") for lines in facts))
    return table


def _one_after_another(models: list[str], told: list[list[str]], facts: list[str]) -> RenderableType:
    """For a terminal too narrow for columns."""
    parts: list[RenderableType] = []
    for name, stories, lines in zip(models, told, facts, strict=True):
        parts += [Rule(Text(name)), *(Text(printable(story) + "\n") for story in stories), Text(lines, style="dim")]
    return Group(*parts)

"""HTML in small pieces: text is escaped unless it says that it is HTML already; a page needs nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

VOID = {"meta", "br", "img"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: object) -> Html:
    """An element. `class_` and `for_` lose their underscore, other ones become hyphens; None leaves an attribute out.

    >>> element("p", "1 < 2, ", element("b", "so"), class_="note", data_x=3)
    '<p class="note" data-x="3">1 &lt; 2, <b>so</b></p>'
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    opening = "".join([tag, *(f' {name}="{escape(str(value))}"' for name, value in given.items())])
    return Html(f"<{opening}>" if tag in VOID else f"<{opening}>{joined(children)}</{tag}>")


def joined(parts: Iterable[str]) -> Html:
    """Parts one after another, text escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def section(title: str, about: str, *children: str) -> Html:
    """A heading, what one sees, and that."""
    return element("section", element("h2", title), element("p", about, class_="about"), *children)


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), **attributes: object
) -> Html:
    """A table that scrolls by itself where it is wide; the columns in `numbers` are set right."""
    right = set(numbers)

    def row(tag: str, cells: Sequence[str]) -> Html:
        return element(
            "tr", *(element(tag, cell, class_="number" if at in right else None) for at, cell in enumerate(cells))
        )

    body = element("tbody", *(row("td", cells) for cells in rows))
    return element("div", element("table", element("thead", row("th", head)), body, **attributes), class_="scroll")


def details(summary: str, *children: str) -> Html:
    """What opens with a click."""
    return element("details", element("summary", summary), *children)


def page(title: str, lead: str, *sections: str, script: bool = False) -> str:
    """A whole page: light and dark as the reader's system is, and readable on a phone."""
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Html(f"<style>\n{_file('page.css')}</style>"),
    ]
    body = element("main", element("header", element("h1", title), element("p", lead, class_="lead")), *sections)
    code = Html(f"<script>\n{_file('page.js')}</script>") if script else Html()
    return f'<!doctype html>\n<html lang="en">\n<head>{joined(head)}</head>\n<body>\n{body}\n{code}</body>\n</html>\n'


def _file(name: str) -> str:
    return (files("storylm.report") / name).read_text(encoding="utf-8")

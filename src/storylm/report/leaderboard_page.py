"""The page of `storylm leaderboard`: who is best and how surely, at a glance, and all that it rests on."""

from collections.abc import Sequence

from storylm.evaluation.leaderboard.board import Board
from storylm.evaluation.measure import Measure
from storylm.report import leaderboard as tables
from storylm.report.charts import picture
from storylm.report.html import Html, details, element, joined, page, section, table

WIDE, HIGH = 180, 16  # of the picture of an interval


def leaderboard_page(board: Board, machine: str) -> str:
    """One self-contained page."""
    first = board.places[0].entry.findings
    sections = [
        section("How well they predict", " ".join([tables.NOTES, *tables.cautions(board)]), _predicting(board)),
        section("What they know and tell", tables.ARROWS, _table(tables.telling(board))),
        *_by_size(board),
        section(
            "The same prompt, told by all",
            f"“{board.questions.prompt}”, with the same seed.",
            *(_story(place.entry.short, place.entry.findings.story) for place in board.places),
        ),
        section(
            "Every figure",
            f"{len(first.measures)} figures of each model.",
            details("Open the table", _table(tables.everything(board))),
        ),
        section("What was asked", tables.about(board), element("p", f"Measured on {machine}.", class_="soft")),
    ]
    if board.left_out:
        rows = [[name, str(error)] for name, error in board.left_out.items()]
        sections.append(section("Left out", "These could not be asked.", table(("model", "why"), rows)))
    return page("Leaderboard", tables.verdict(board), *sections)


def _predicting(board: Board) -> Html:
    """The table, with a picture of each interval beside its ends."""
    plain = tables.predicting(board)
    figures = [place.entry.findings.bits_per_byte for place in board.places]
    ends = [end for one in figures for end in one.interval or (one.value or 0.0,)]
    rows = [
        [*row[:2], element("strong", row[2]), _whisker(one, min(ends), max(ends)), *row[3:]]
        for one, row in zip(figures, plain.rows, strict=True)
    ]
    head = [*plain.head[:3], "", *plain.head[3:]]
    return table(head, rows, numbers=[2, *range(4, len(head))])


def _whisker(one: Measure, low: float, high: float) -> Html:
    """An interval as a line, if there is one, and its figure as a dot, on one scale for all rows."""

    def at(figure: float) -> str:
        return f"{5 + (WIDE - 10) * (figure - low) / ((high - low) or 1.0):.1f}"

    middle, value = HIGH / 2, one.value or 0.0
    parts, label = [element("circle", cx=at(value), cy=middle, r=4, fill="var(--c0)")], f"{value:.4f}"
    if one.interval is not None:
        first, last = one.interval
        line = element("line", x1=at(first), x2=at(last), y1=middle, y2=middle, stroke="var(--c0)", stroke_width=2)
        parts, label = [line, *parts], f"{label}, 95 % from {first:.4f} to {last:.4f}"
    return element("svg", *parts, width=WIDE, height=HIGH, role="img", aria_label=label)


def _by_size(board: Board) -> Sequence[Html]:
    """Bits per byte by parameters, where there are models to compare."""
    chart = tables.by_size(board)
    if chart is None:
        return []
    return [section("What size buys", "Lower is better; further left is smaller.", picture(chart, class_="chart"))]


def _story(name: str, story: str) -> Html:
    return joined([element("h3", name), element("blockquote", story)])


def _table(plain: tables.Table) -> Html:
    return table(plain.head, plain.rows, numbers=range(plain.texts, len(plain.head)))

"""What a sweep found: a table, the best first, pictures, and the law of size and tokens where it is asked for."""

from collections.abc import Sequence
from typing import Any

from storylm.report.charts import Chart, Line, picture
from storylm.report.fitted import Fitted
from storylm.report.html import Html, page, section, table
from storylm.report.sweep_rows import Row, ranked, warning

BEST = 6  # runs whose curves are drawn


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the table, for a terminal or a page."""
    keys = list(dict.fromkeys(key for row in rows for key in row.varied))
    named = ["run"] if any(not row.varied for row in rows) else []
    head = [*named, *keys, "bits per byte", "parameters", "tokens", "minutes", ""]
    lines = []
    for row in ranked(rows):
        newest = row.run.newest if row.run else {}
        lines.append(
            [
                *(row.name for _ in named),
                *(row.varied.get(key, "") for key in keys),
                "-" if row.figure is None else f"{row.figure:.4f}" if row.counts else f"({row.figure:.4f})",
                f"{row.run.parameters:,}" if row.run else "-",
                f"{newest['tokens']:,}" if newest else "-",
                f"{newest['seconds'] / 60:.1f}" if newest else "-",
                f"{row.ended}: {row.why}" if row.why else row.ended,
            ]
        )
    return head, lines


def chart(rows: Sequence[Row]) -> Chart | None:
    """Bits per byte along the setting with the most numbers, a line for each combination of the others; None where no
    setting is a number."""
    judged = [row for row in rows if row.counts]
    numbers = {key: _numbers(judged, key) for key in dict.fromkeys(key for row in judged for key in row.varied)}
    usable = {key: of for key, of in numbers.items() if of is not None and len(set(of)) > 1}
    if not usable:
        return None
    along = max(usable, key=lambda key: len(set(usable[key])))
    xs = usable[along]
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for row, x in zip(judged, xs, strict=True):
        others = ", ".join(_short(key, value) for key, value in row.varied.items() if key != along)
        lines.setdefault(others, []).append((x, row.figure))
    drawn = [Line(name, sorted(points), number, marked=True) for number, (name, points) in enumerate(lines.items())]
    return Chart(
        f"Bits per byte by {along}", along, "bits per byte", drawn, log_x=min(xs) > 0 and max(xs) >= 5 * min(xs)
    )


def sweep_page(title: str, rows: Sequence[Row], law: Fitted | None = None) -> str:
    """One self-contained page."""
    head_lines, drawn = cells(rows), chart(rows)
    about = "By the fewest bits per byte of validation; in brackets, what runs had before they diverged or failed."
    sections = []
    if drawn:
        sections.append(section("What it depends on", "Lower is better.", picture(drawn, class_="chart")))
    sections.append(section("All runs", " ".join(filter(None, [about, warning(rows)])), _table(*head_lines)))
    curves = [
        Line(row.name, [(at["tokens"], at["bits_per_byte"]) for at in row.run.passes], number, marked=True)
        for number, row in enumerate(ranked(rows)[:BEST])
        if row.run and row.run.passes and row.counts
    ]
    if curves:
        by_tokens = Chart("Bits per byte by tokens", "tokens", "bits per byte", curves, settled=True)
        sections.append(section("On the way", f"The best {len(curves)}.", picture(by_tokens, class_="chart")))
    if law:
        sections.append(section("The law", f"{law}.", picture(law.chart, class_="chart")))
    return page(title, _lead(rows), *sections)


def _lead(rows: Sequence[Row]) -> str:
    """Which run is best."""
    best = ranked(rows)[0]
    if not best.counts:
        return "No run is judged yet." if best.figure is None else "Every run with a figure diverged or failed."
    settings = ", ".join(_short(key, value) for key, value in best.varied.items()) or best.name
    of = f"Best of {len(rows)}: " if len(rows) > 1 else ""
    return f"{of}{settings}, {best.figure:.4f} bits per byte."


def _table(head: list[str], lines: list[list[str]]) -> Html:
    return table(head, lines, numbers=range(len(head) - 5, len(head) - 1))


def _numbers(rows: Sequence[Row], key: str) -> list[float] | None:
    try:
        return [float(row.varied[key]) for row in rows]
    except (ValueError, KeyError):
        return None


def _short(key: str, value: Any) -> str:
    return value if key == "preset" else f"{key.rpartition('.')[2]} {value}"

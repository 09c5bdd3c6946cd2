"""What a sweep found: a table, the best first, pictures, and the law of size and tokens where it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storylm.report.charts import Chart, Line, svg
from storylm.report.html import Html, element, page, section, table
from storylm.report.law import Law, fit
from storylm.report.runs import Run

BEST = 6  # runs whose curves are drawn


@dataclass(frozen=True)
class Row:
    """A run of a sweep: what tells it from the others, how it ended, and what is in its folder (None: nothing yet)."""

    name: str
    varied: Mapping[str, str]
    ended: str
    run: Run | None

    @property
    def figure(self) -> float | None:
        """Its fewest bits per byte."""
        return self.run.best["bits_per_byte"] if self.run and self.run.best else None


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The best first; those without a figure last."""
    return sorted(rows, key=lambda row: (row.figure is None, row.figure or 0.0))


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the table, for a terminal or a page."""
    keys = list(dict.fromkeys(key for row in rows for key in row.varied))
    head = [*keys, "bits per byte", "parameters", "tokens", "minutes", ""]
    lines = []
    for row in ranked(rows):
        newest = row.run.newest if row.run else {}
        lines.append(
            [
                *(row.varied.get(key, "") for key in keys),
                "-" if row.figure is None else f"{row.figure:.4f}",
                f"{row.run.parameters:,}" if row.run else "-",
                f"{newest['tokens']:,}" if newest else "-",
                f"{newest['seconds'] / 60:.1f}" if newest else "-",
                row.ended,
            ]
        )
    return head, lines


def chart(rows: Sequence[Row]) -> Chart | None:
    """Bits per byte along the setting with the most numbers, a line for each combination of the others; None where no
    setting is a number."""
    judged = [row for row in rows if row.figure is not None]
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


@dataclass(frozen=True)
class Fitted:
    """A law fitted to the runs of a sweep, the root mean square of its misses (of the logarithm), and its picture."""

    law: Law
    error: float
    chart: Chart

    def __str__(self) -> str:
        law = self.law
        return (
            f"bits per byte = {law.floor:.3f} + {law.a_scale:.3g} / parameters^{law.a:.3f} + {law.b_scale:.3g} / "
            f"tokens^{law.b:.3f}, with misses of {self.error:.1%}"
        )


def fitted(rows: Sequence[Row]) -> Fitted:
    """The law of Hoffmann et al. (2022), fitted to every run that has a figure; each one counts at its best evaluation.

    Raises:
        UsageError: too few runs, or all of one size.
        SetupError: there is no scipy.
    """
    losses = [
        (float(row.run.parameters), float(row.run.best["tokens"]), float(row.figure))
        for row in rows
        if row.run and row.run.best and row.figure is not None
    ]
    law, error = fit(losses)
    lines = []
    tokens = sorted({float(f"{seen:.2g}") for _, seen, _ in losses})
    sizes = sorted({size for size, _, _ in losses})
    for number, seen in enumerate(tokens):
        points = sorted((size, loss) for size, at, loss in losses if float(f"{at:.2g}") == seen)
        lines.append(Line(f"{seen / 1e6:.3g}M tokens", points, number, marked=True))
        lines.append(Line("", [(size, law.loss(size, seen)) for size in sizes], number, faint=True, dashed=True))
    title = "Measured, and the law (dashed)"
    return Fitted(law, error, Chart(title, "parameters", "bits per byte", lines, log_x=True))


def sweep_page(title: str, rows: Sequence[Row], law: Fitted | None = None) -> str:
    """One self-contained page."""
    best, head_lines, picture = ranked(rows)[0], cells(rows), chart(rows)
    settings = ", ".join(_short(key, value) for key, value in best.varied.items())
    lead = (
        f"Best of {len(rows)}: {settings}, {best.figure:.4f} bits per byte." if best.figure else "No run is judged yet."
    )
    sections = []
    if picture:
        sections.append(
            section("What it depends on", "Lower is better.", element("figure", svg(picture), class_="chart"))
        )
    sections.append(section("All runs", "By the fewest bits per byte of validation.", _table(*head_lines)))
    curves = [
        Line(row.name, [(at["tokens"], at["bits_per_byte"]) for at in row.run.passes], number, marked=True)
        for number, row in enumerate(ranked(rows)[:BEST])
        if row.run and row.run.passes
    ]
    if curves:
        drawn = svg(Chart("Bits per byte by tokens", "tokens", "bits per byte", curves, settled=True))
        sections.append(section("On the way", f"The best {len(curves)}.", element("figure", drawn, class_="chart")))
    if law:
        sections.append(section("The law", f"{law}.", element("figure", svg(law.chart), class_="chart")))
    return page(title, lead, *sections)


def _table(head: list[str], lines: list[list[str]]) -> Html:
    return table(head, lines, numbers=range(len(head) - 5, len(head) - 1))


def _numbers(rows: Sequence[Row], key: str) -> list[float] | None:
    try:
        return [float(row.varied[key]) for row in rows]
    except (ValueError, KeyError):
        return None


def _short(key: str, value: Any) -> str:
    return value if key == "preset" else f"{key.rpartition('.')[2]} {value}"

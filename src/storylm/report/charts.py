"""Lines over an axis: one description, drawn as SVG for a page (in its colours, light or dark) and as PNG."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from storylm.config.errors import SetupError
from storylm.config.files import atomic_file
from storylm.report.html import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float | None]]
# As the page's variables --c0, --c1, ... are in its light colours; then ink, the soft one and lines.
COLOURS = ("#0072b2", "#d55e00", "#00845f", "#b0568f", "#a87800", "#2f93c9", "#55606b")
INK, SOFT, RULE = "#1c2126", "#5b6570", "#dfe3e8"
VARIABLES = {**{colour: f"var(--c{number})" for number, colour in enumerate(COLOURS)}}
VARIABLES |= {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--line)"}
MOST = 600  # points of a line: more are not seen
APART = 0.062  # of the height, between two labels


@dataclass(frozen=True)
class Line:
    """Points (x, y) by rising x; a y of None, or that is not finite, leaves a gap. `marked`: a dot on each."""

    name: str
    points: Points
    colour: int = 0
    marked: bool = False
    faint: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Some lines with their axes. `settled`: the y-axis ends at what lines reach after a tenth of their length, since
    what comes before would flatten all the rest."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    settled: bool = False
    log_x: bool = False
    small: bool = False


def figure(chart: Chart) -> "Figure":
    """The chart by matplotlib; every line has its name beside its end, so that no legend is needed.

    Raises:
        SetupError: there is no matplotlib.
    """
    _matplotlib()
    from matplotlib.figure import Figure  # not pyplot: that keeps every figure and picks a window system
    from matplotlib.ticker import EngFormatter, MaxNLocator

    drawn = Figure(figsize=(4.4, 3.2) if chart.small else (6.0, 3.9), layout="constrained", facecolor="none")
    axes = drawn.subplots()
    axes.set_facecolor("none")
    for line in chart.lines:
        xs, ys = _thinned(line.points)
        axes.plot(
            xs,
            ys,
            color=COLOURS[line.colour % len(COLOURS)],
            linewidth=1 if line.faint else 2,
            alpha=0.55 if line.faint else 1,
            linestyle="--" if line.dashed else "-",
            marker="o" if line.marked else None,
            markersize=3.5,
        )
    if chart.log_x:
        axes.set_xscale("log")
    elif any(line.points for line in chart.lines):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if any(y is not None and y >= 10_000 for line in chart.lines for _, y in line.points):
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    _limit(axes, chart)
    axes.set_title(chart.title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(chart.x, color=SOFT)
    axes.set_ylabel(chart.y, color=SOFT)
    axes.tick_params(colors=SOFT, length=0)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    _label_ends(axes, chart)
    return drawn


def svg(chart: Chart) -> Html:
    """The chart as an element of a page, in the page's colours. Raises `SetupError` without matplotlib."""
    matplotlib = _matplotlib()
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.title, "font.family": "sans-serif"}):
        figure(chart).savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<g) id="[a-z_0-9]+"', r"\1", text)  # the same in every chart; a page has each id once
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]+\"", r"\1", re.sub(r"(<svg[^>]*?) height=\"[^\"]+\"", r"\1", text))
    text = text.replace("<svg", '<svg role="img"', 1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return Html(re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 system-ui, sans-serif", text))


def picture(chart: Chart, **attributes: object) -> Html:
    """A figure of a page; without matplotlib, a line that says so: a page is worth much without its pictures."""
    try:
        return element("figure", svg(chart), **attributes)
    except SetupError as error:
        return element("p", f"{chart.title}: no picture, since {error}", class_="soft")


def write_pngs(charts: Mapping[Path, Chart], say: Callable[[str], None]) -> list[Path]:
    """The charts as pictures, and which were written: without matplotlib none, and `say` is told."""
    try:
        for path, chart in charts.items():
            write_png(chart, path)
    except SetupError as error:
        say(f"no pictures: {error}")
        return []
    return list(charts)


def write_png(chart: Chart, path: Path) -> None:
    """The chart as a picture on white. Raises `SetupError` without matplotlib."""
    drawn = figure(chart)
    with atomic_file(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=144, facecolor="white")


def _matplotlib() -> ModuleType:
    try:
        import matplotlib
    except ImportError as error:
        raise SetupError("charts need matplotlib: pip install 'storylm[report]'") from error
    return matplotlib


def _thinned(points: Points) -> tuple[list[float], list[float]]:
    """At most `MOST` points: means of as many neighbours each; a stretch with no number at all stays a gap."""
    if not points:
        return [], []
    xs = np.array([x for x, _ in points], np.float64)
    ys = np.array([math.nan if y is None else y for _, y in points], np.float64)
    if len(xs) <= MOST:
        return xs.tolist(), ys.tolist()
    parts = np.array_split(np.arange(len(xs)), MOST)
    finite = [part[np.isfinite(ys[part])] for part in parts]
    return [xs[part].mean() for part in parts], [ys[part].mean() if len(part) else math.nan for part in finite]


def _limit(axes: "Axes", chart: Chart) -> None:
    shown = []
    for line in chart.lines:
        points = [(x, y) for x, y in line.points if y is not None and math.isfinite(y)]
        if not points:
            continue
        after = points[0][0] + 0.1 * (points[-1][0] - points[0][0]) if chart.settled else points[0][0]
        shown += [y for x, y in points if x >= after]
    if shown:
        low, high = min(shown), max(shown)
        room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        axes.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)


def _label_ends(axes: "Axes", chart: Chart) -> None:
    """Names at the ends of lines, moved apart where they would lie on each other."""
    low, high = axes.get_ylim()
    ends = []
    for line in chart.lines:
        seen = [(x, y) for x, y in line.points if y is not None and math.isfinite(y)]
        if line.name and seen:
            x, y = seen[-1]
            ends.append([(min(max(y, low), high) - low) / (high - low), x, min(max(y, low), high), line])
    ends.sort(key=lambda end: end[0])
    gap, floor = APART * (1.5 if chart.small else 1), -1.0
    for end in ends:  # upwards, each at least so far above the one below
        floor = end[0] = max(end[0], floor + gap)
    for share, x, y, line in ends:
        axes.annotate(
            f" {line.name}",
            xy=(x, y),
            xytext=(4, (share - (y - low) / (high - low)) * axes.get_window_extent().height * 72 / axes.figure.dpi),
            textcoords="offset points",
            color=COLOURS[line.colour % len(COLOURS)],
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )

"""The pictures of docs/scaling-study.md."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from storylm.report.law import Law
from study.grids import SOURCES

TITLES = {"grammar": "built-in stories", "real": "TinyStories"}
Rows = list[dict[str, Any]]
BySource = dict[str, Rows]


def chosen(rows: Rows, grid: str) -> BySource:
    """The runs of a grid that came through, for each source that has some."""
    found = [row for row in rows if row["grid"] == grid and "failed" not in row]
    by_source = {source: [row for row in found if row["source"] == source] for source in SOURCES}
    return {source: of for source, of in by_source.items() if of}


def draw(rows: Rows, laws: dict[str, Law], folder: Path) -> None:
    """scaling-size.png, scaling-shape.png and scaling-vocabulary.png in `folder`, of the grids that have runs.

    `laws` are those of the sources that have been fitted: they are drawn beside the losses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for grid, picture in (("size", partial(_sizes, laws=laws)), ("shape", _shapes), ("vocabulary", _vocabularies)):
        if found := chosen(rows, grid):
            picture(found).savefig(folder / f"scaling-{grid}.png", dpi=110)


def _axes(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((4.6 * count, 3.6), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _sizes(by_source: BySource, laws: dict[str, Law]) -> Any:
    """Loss against parameters, tokens and arithmetic, a row of panels for each source; dashed what the law says."""
    from matplotlib.figure import Figure

    from storylm.data.grammar import entropy

    figure = Figure((12, 3.3 * len(by_source)), layout="constrained")
    panels = figure.subplots(len(by_source), 3, sharey="row", squeeze=False)
    for (source, found), line in zip(by_source.items(), panels, strict=True):
        ways = (("parameters", "tokens"), ("tokens", "parameters"), ("flops", "parameters"))
        for axes, (along, one_line) in zip(line, ways, strict=True):
            for value in sorted({_rounded(row[one_line]) for row in found}):
                of = sorted((row for row in found if _rounded(row[one_line]) == value), key=lambda row: row[along])
                label = f"{value / 1e6:.2g}M {one_line}"
                losses = [row["bits_per_byte"] for row in of]
                (measured,) = axes.plot([row[along] for row in of], losses, "o-", label=label)
                if source in laws:
                    values = np.geomspace(of[0][along], of[-1][along], 30)
                    axes.plot(values, _by_law(laws[source], of[0], along, values), "--", color=measured.get_color())
            if source == "grammar":
                axes.axhline(entropy().bits_per_byte, color="gray", linestyle=":", label="entropy")
            _logarithmic(axes)
            axes.set_xlabel({"flops": "FLOPs"}.get(along, along))
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
        line[0].set_ylabel(f"{TITLES[source]}: bits per byte")
    return figure


def _by_law(law: Law, row: dict[str, Any], along: str, values: Any) -> Any:
    """What the row's loss would be with other parameters, tokens or FLOPs, which come with tokens."""
    if along == "parameters":
        return law.loss(values, row["tokens"])
    return law.loss(row["parameters"], row["tokens"] * values / row[along])


def _shapes(by_source: BySource) -> Any:
    """What depth does at the same size: the loss of a kind of word, as a multiple of that of one layer."""
    from matplotlib.ticker import MaxNLocator

    figure, panels = _axes(len(by_source))
    for (source, rows), axes in zip(by_source.items(), panels, strict=True):
        found = sorted(rows, key=lambda row: row["layers"])
        layers = [row["layers"] for row in found]
        for kind in found[0]["nats_per_word"]:
            losses = [row["nats_per_word"][kind]["nats"] for row in found]
            axes.plot(layers, [loss / losses[0] for loss in losses], "o-", label=kind)
        axes.plot(layers, [row["bits_per_byte"] / found[0]["bits_per_byte"] for row in found], "k--", label="all bytes")
        axes.set_xscale("log", base=2)
        axes.set_xticks(layers, [f"{row['layers']} x {row['width']}" for row in found])
        axes.set_xlabel("layers x width")
        axes.set_yscale("log", base=2)  # sixteen layers lose ten times as many names as one
        axes.yaxis.set_major_locator(MaxNLocator(10))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_title(TITLES[source])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("loss, one layer = 1")
    return figure


def _vocabularies(by_source: BySource) -> Any:
    """Loss against the vocabulary, by width, after the same text."""
    figure, (axes, work) = _axes(2)
    (found,) = by_source.values()
    for width in sorted({row["width"] for row in found}):
        of = sorted((row for row in found if row["width"] == width), key=lambda row: row["vocab_size"])
        losses = [row["bits_per_byte"] for row in of]
        axes.plot([row["vocab_size"] for row in of], losses, "o-", label=f"width {width}")
        work.plot([row["flops"] for row in of], losses, "o-", label=f"width {width}")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("tokens in the vocabulary")
    _logarithmic(work)
    work.set_xlabel("FLOPs")
    axes.set_ylabel("bits per byte after the same text")
    for each in (axes, work):
        each.grid(alpha=0.3)
        each.legend(fontsize=8)
    return figure


def _logarithmic(axes: Any) -> None:
    """Labelled at 1, 2 and 5: budgets span less than a decade or two."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _rounded(value: float) -> float:
    """Tokens and parameters to two digits, so that runs of as good as the same number are one line."""
    return float(f"{value:.2g}")

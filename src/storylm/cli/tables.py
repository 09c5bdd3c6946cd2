"""What judging found, as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Column, Table

    from storylm.evaluation.details import Breakdown
    from storylm.evaluation.likelihood import Likelihood
    from storylm.evaluation.measure import Measure

BETTER = {"higher": "higher", "lower": "lower", "reference": "nearer"}  # the last: to the reference


def of_likelihood(likelihood: "Likelihood", measures: "Sequence[Measure]", convention: str) -> "list[RenderableType]":
    """Bits per byte and all that belongs to it, and the convention."""
    from rich.text import Text

    table = _plain()
    table.add_row("[bold]bits per byte[/]", f"[bold]{likelihood.bits_per_byte:.4f}[/]")
    table.add_row("nats per token", f"{likelihood.nats_per_token:.4f}")
    table.add_row("perplexity", f"{likelihood.perplexity:,.3f}")
    if likelihood.special_tokens:
        table.add_row("nats per end token", f"{likelihood.special_nats / likelihood.special_tokens:.4f}")
    table.add_row("stories", f"{likelihood.stories:,}")
    table.add_row("tokens", f"{likelihood.tokens:,}")
    table.add_row("bytes", f"{likelihood.bytes:,}")
    table.add_row("truncated stories", f"{likelihood.truncated_stories:,}")
    around = _around(measures[0].interval)
    sure = f"Bits per byte, 95 % over stories: {around}." if around else "One story has no interval."
    return [table, Text(f"{convention} {sure} {_about_long_stories(likelihood)}".strip(), style="dim")]


def of_splits(splits: "Mapping[str, Mapping[str, Any]]") -> "list[RenderableType]":
    """Bits per byte of each split, where all were judged together."""
    from rich.table import Table

    table = Table("split", *_figures("bits per byte", "95 %", "stories", "bytes"), box=None, pad_edge=False)
    for name, row in splits.items():
        figures = digits(row["bits_per_byte"]), _around(row["interval"])
        table.add_row(name, *figures, f"{row['stories']:,}", f"{row['bytes']:,}")
    return ["", table]


def of_details(breakdown: "Breakdown") -> "list[RenderableType]":
    """Bits per byte of the parts, and calibration."""
    from rich.table import Table

    parts = Table("part", "", *_figures("bits per byte", "bytes"), box=None, pad_edge=False)
    for kind, of_kind in breakdown.parts.items():
        for number, (name, part) in enumerate(of_kind.items()):
            parts.add_row("" if number else kind, name, digits(part.bits_per_byte), f"{part.bytes:,}")
    calibration = breakdown.calibration
    bins = Table("calibration", *_figures("sure", "right", "tokens"), box=None, pad_edge=False)
    for one in calibration.bins:
        bins.add_row("", f"{one.confidence:.3f}", f"{one.accuracy:.3f}", f"{one.tokens:,}")
    bins.add_row("expected error", f"{calibration.error:.4f}", "", "")
    return ["", parts, "", bins]


def of_measures(title: str, measures: "Sequence[Measure]", reference: str | None = None) -> "RenderableType":
    """Every figure with its interval and, where there are references, these and which way is better."""
    from rich.table import Table

    beside = [] if reference is None else [*_figures(reference), "better"]
    table = Table(title, *_figures("value", "95 %"), *beside, box=None, pad_edge=False)
    for one in measures:
        row = [one.name.removeprefix(f"{title}_").replace("_", " "), digits(one.value), _around(one.interval)]
        table.add_row(*row, *([digits(one.reference), f"[dim]{BETTER[one.direction]}[/]"] if beside else []))
    return table


def _figures(*names: str) -> "list[Column]":
    from rich.table import Column

    return [Column(name, justify="right") for name in names]


def _plain() -> "Table":
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    return table


def digits(value: float | None) -> str:
    """With as many digits as make sense."""
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _around(interval: "Sequence[float | None] | None") -> str:
    return "" if interval is None else " to ".join(map(digits, interval))


def _about_long_stories(likelihood: "Likelihood") -> str:
    """What became of those longer than the context."""
    context, stride = likelihood.context, likelihood.stride
    if not likelihood.truncated_stories:
        return ""
    if stride is None:
        return f"Of truncated stories, the first {context} tokens: with --stride {max(1, context // 2)}, all of them."
    return (
        f"Truncated stories are longer than the context, {context} tokens, and scored in windows {stride} tokens apart."
    )

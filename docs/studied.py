"""The tables of docs/scaling-study.md, from benchmarks/results/scaling-study.json."""

import sys
from collections.abc import Callable
from typing import Any

from measured import ROOT, read

sys.path.append(str(ROOT / "benchmarks"))


def runs(grid: str) -> dict[str, list[dict[str, Any]]]:
    """The runs of a grid by source."""
    from study.pictures import chosen

    return chosen(list(read("scaling-study")["runs"].values()), grid)


def laws() -> str:
    """The fitted laws; in brackets what leaving out any one run makes of an exponent."""
    from study.pictures import TITLES

    lines = ["| stories | floor E | A | a | B | b | RMS error |", "|---|---|--:|---|--:|---|--:|"]
    for law in read("scaling-study")["laws"]:
        ranges = {key: f"({low:.2f} to {high:.2f})" for key, (low, high) in law["ranges"].items()}
        floor = f"{law['floor']:.3f}, the entropy" if law["floor_given"] else f"{law['floor']:.2f} {ranges['floor']}"
        cells = [TITLES[law["source"]], floor, f"{law['a_scale']:.3g}", f"{law['a']:.2f} {ranges['a']}"]
        cells += [f"{law['b_scale']:.3g}", f"{law['b']:.2f} {ranges['b']}", f"{law['error']:.1%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sizes() -> str:
    """Bits per byte by width and tokens."""
    from study.pictures import TITLES

    lines = ["| stories | layers x width | parameters | bits per byte after so many tokens |", "|---|---|--:|---|"]
    for source, found in runs("size").items():
        for width in sorted({row["width"] for row in found}):
            of = sorted((row for row in found if row["width"] == width), key=lambda row: row["tokens"])
            losses = ", ".join(f"{row['bits_per_byte']:.3f} ({row['tokens'] / 1e6:.1f}M)" for row in of)
            lines.append(f"| {TITLES[source]} | {of[0]['layers']} x {width} | {of[0]['parameters']:,} | {losses} |")
    return "\n".join(lines)


def shapes() -> str:
    """Depth against width: bits per byte, and nats per word of each kind."""
    from study.pictures import TITLES
    from study.words import KINDS

    head = [
        "stories",
        "layers x width",
        "parameters in blocks",
        "bits per byte",
        *(f"nats a word: {kind}" for kind in KINDS),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * (len(head) - 2)]
    for source, found in runs("shape").items():
        for row in sorted(found, key=lambda row: row["layers"]):
            cells = [TITLES[source], f"{row['layers']} x {row['width']}", f"{row['block_parameters']:,}"]
            cells += [f"{row['bits_per_byte']:.3f}", *(f"{row['nats_per_word'][kind]['nats']:.2f}" for kind in KINDS)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def vocabularies() -> str:
    """Bits per byte after the same text, by vocabulary and width, with parameters and FLOPs."""
    (found,) = runs("vocabulary").values()
    widths = sorted({row["width"] for row in found})
    lines = ["| tokens | " + " | ".join(f"width {width}" for width in widths) + " |", "|--:|" + "---|" * len(widths)]
    by_place = {(row["vocab_size"], row["width"]): row for row in found}
    best = {width: min(row["bits_per_byte"] for row in found if row["width"] == width) for width in widths}
    for size in sorted({size for size, _ in by_place}):
        cells = [_cost(by_place.get((size, width)), best[width]) for width in widths]
        lines.append(f"| {size:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cost(row: dict[str, Any] | None, best: float) -> str:
    """Bits per byte, bold where they are the best, and what they cost: "**0.922** (1.84M, 23T)"."""
    if row is None:
        return ""
    loss = f"{row['bits_per_byte']:.3f}"
    shown = f"**{loss}**" if row["bits_per_byte"] == best else loss
    return f"{shown} ({row['parameters'] / 1e6:.2f}M, {row['flops'] / 1e12:.0f}T)"


TABLES: dict[str, Callable[[], str]] = {
    "study-laws": laws,
    "study-sizes": sizes,
    "study-shapes": shapes,
    "study-vocabularies": vocabularies,
}

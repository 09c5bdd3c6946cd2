"""Attention as a picture: a square for each query and key, the darker the more."""

# T tokens

from itertools import groupby

from storylm.report.html import Html, element

SHADES = 8
FAINTEST = 0.02  # less attention is not drawn: a map of 48 tokens has a thousand squares that nobody would see


def attention_svg(weights_TT: list[list[float]], title: str) -> Html:
    """A map of one head: rows are queries, columns the keys they look at. Squares of a shade are one path."""
    paths: dict[int, list[str]] = {}
    for query, row in enumerate(weights_TT):
        key = 0
        for shade, run in groupby(map(_shade, row[: query + 1])):
            length = len(list(run))
            if shade:
                paths.setdefault(shade, []).append(f"M{key} {query}h{length}v1h-{length}z")
            key += length
    size = len(weights_TT)
    drawn = [element("path", d="".join(parts), opacity=f"{shade / SHADES:g}") for shade, parts in sorted(paths.items())]
    return element(
        "svg",
        element("title", title),
        *drawn,
        viewBox=f"0 0 {size} {size}",
        role="img",
        fill="var(--c0)",
        shape_rendering="crispEdges",
    )


def _shade(weight: float) -> int:
    """0 to `SHADES`. By the square root, so that a tenth of a head's attention is seen beside all of it."""
    return 0 if weight < FAINTEST else max(1, round(SHADES * min(1.0, weight) ** 0.5))

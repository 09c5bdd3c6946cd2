"""The law of size and tokens, fitted to the runs of a sweep and drawn over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storylm.report.charts import Chart, Line
from storylm.report.compare import judged_by
from storylm.report.law import Law, fit, ranges
from storylm.report.sweep_rows import Row


@dataclass(frozen=True)
class Fitted:
    """A law fitted to some runs of a sweep, the root mean square of its misses (of the logarithm), what its exponents
    become where any one of the runs is left out, and its picture."""

    law: Law
    runs: int
    error: float
    ranges: Mapping[str, tuple[float, float]]
    chart: Chart

    def __str__(self) -> str:
        law = self.law
        sure = ", ".join("{}: {:.3f} to {:.3f}".format(key, *self.ranges[key]) for key in ("floor", "a", "b"))
        return (
            f"bits per byte = {law.floor:.3f} + {law.a_scale:.3g} / parameters^{law.a:.3f} + {law.b_scale:.3g} / "
            f"tokens^{law.b:.3f}, of {self.runs} runs, with misses of {self.error:.1%}; leaving any one run out makes "
            f"of the floor {law.floor:.3f} and the exponents {law.a:.3f} and {law.b:.3f}: {sure}"
        )


def fitted(rows: Sequence[Row]) -> Fitted:
    """The law of Hoffmann et al. (2022), fitted to the runs that have a figure, each at its best evaluation.

    Of runs that were judged by different stories, to the largest group that was judged by the same.

    Raises:
        UsageError: what `law.fit` raises.
        SetupError: there is no scipy.
    """
    groups: dict[object, list[Row]] = {}
    for row in rows:
        if row.run and row.counts:
            groups.setdefault(judged_by(row.run), []).append(row)
    rows = max(groups.values(), key=len, default=[])
    losses = [
        (float(row.run.parameters), float(row.run.best["tokens"]), float(row.figure))
        for row in rows
        if row.run and row.run.best and row.figure is not None
    ]
    law, error = fit(losses)
    sure = ranges(losses)
    lines = []
    tokens = sorted({float(f"{seen:.2g}") for _, seen, _ in losses})
    sizes = sorted({size for size, _, _ in losses})
    for number, seen in enumerate(tokens):
        points = sorted((size, loss) for size, at, loss in losses if float(f"{at:.2g}") == seen)
        lines.append(Line(f"{seen / 1e6:.3g}M tokens", points, number, marked=True))
        lines.append(Line("", [(size, law.loss(size, seen)) for size in sizes], number, faint=True, dashed=True))
    title = "Measured, and the law (dashed)"
    return Fitted(law, len(losses), error, sure, Chart(title, "parameters", "bits per byte", lines, log_x=True))

"""loss.png: the loss of a run, in training and on validation, over its steps."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storylm.config.errors import SetupError
from storylm.config.files import atomic_file
from storylm.training.metrics import read_metrics
from storylm.training.records import EvaluationRecord, Observer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERPLEXITIES = [factor * 10**power for power in range(7) for factor in (1, 1.5, 2, 3, 5, 7)]


class LossPlot(Observer):
    """Draws `path` after every evaluation and at the end: from the metrics file, so it shows a resumed run whole."""

    def __init__(self, metrics: Path, path: Path):
        self.metrics, self.path = metrics, path

    def after_evaluation(self, record: EvaluationRecord) -> None:
        """Draw it anew."""
        self._draw()

    def close(self) -> None:
        """Draw it for the last time."""
        self._draw()

    def _draw(self) -> None:
        if self._is_due() and (records := read_metrics(self.metrics)):
            figure = loss_figure(records)
            with atomic_file(self.path) as temporary:
                figure.savefig(temporary, format="png", dpi=144)

    def _is_due(self) -> bool:
        if not self.metrics.exists():
            return False
        return not self.path.exists() or self.metrics.stat().st_mtime_ns >= self.path.stat().st_mtime_ns


def loss_figure(records: Iterable[dict[str, Any]]) -> "Figure":
    """Training and validation loss in nats per token, with the perplexities they are on the right.

    `records` are those of `read_metrics`. Raises `SetupError` without matplotlib.

    >>> loss_figure(read_metrics(run / "metrics.jsonl")).savefig("loss.svg")        # doctest: +SKIP
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: that keeps every figure and picks a window system
    except ImportError as error:
        raise SetupError("the loss is not plotted, which needs matplotlib: pip install 'storylm[report]'") from error

    records = list(records)
    train = [(record["step"], record["loss"]) for record in records if record["kind"] == "step"]
    passes = [record for record in records if record["kind"] == "evaluation"]
    judged = [(record["step"], record["nats_per_token"]) for record in passes]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*_columns(train), color="tab:blue", linewidth=1, alpha=0.8, label="training")
    if judged:
        axes.plot(*_columns(judged), color="tab:orange", marker="o", markersize=3.5, label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=_title(passes))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines["top"].set_visible(False)
    axes.legend(frameon=False)
    _perplexities(axes)
    return figure


def _columns(points: list[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    """Steps and values; what was not finite (null in the file) leaves a gap in the line."""
    return [step for step, _ in points], [math.nan if value is None else value for _, value in points]


def _title(passes: list[dict[str, Any]]) -> str:
    judged = [record for record in passes if record["bits_per_byte"] is not None]
    if not judged:
        return "Loss"
    best = min(judged, key=lambda record: record["bits_per_byte"])
    return f"Loss; best validation {best['bits_per_byte']:.3f} bits per byte, at step {best['step']:,}"


def _perplexities(axes: "Axes") -> None:
    """A scale on the right. Perplexity is exp(loss), so round numbers stand where their logarithms are."""
    low, high = axes.get_ylim()
    right = axes.twinx()
    right.set_ylim(low, high)
    ticks = [value for value in PERPLEXITIES if low <= math.log(value) <= high]
    # As many as can be read: one for about every twelfth of the height.
    room = (high - low) / 12
    chosen: list[float] = []
    for value in ticks:
        if not chosen or math.log(value) - math.log(chosen[-1]) >= room:
            chosen.append(value)
    right.set_yticks([math.log(value) for value in chosen], [f"{value:,g}" for value in chosen])
    right.set_ylabel("perplexity")
    right.spines["top"].set_visible(False)

"""loss.png: what is on it, and that a run does not need it."""

import math
import os
import sys
from itertools import pairwise

import pytest

from storylm.config.errors import SetupError
from storylm.training.curves import LossPlot, loss_figure
from storylm.training.metrics import MetricsFile, read_metrics
from storylm.training.observers import Observer, Observers
from training.told import evaluation_record, step_record

STEPS = {10: 6.0, 20: 4.0, 30: math.nan, 40: 2.5, 50: 2.0}
JUDGED = {20: (3.9, 1.1), 40: (2.4, 0.7), 50: (2.6, 0.75)}


@pytest.fixture
def metrics(tmp_path):
    """A run's metrics.jsonl with a step that was not finite."""
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    for step, loss in STEPS.items():
        file.after_step(step_record(step, loss=loss))
        if step in JUDGED:
            nats, bits = JUDGED[step]
            file.after_evaluation(evaluation_record(step, nats_per_token=nats, bits_per_byte=bits))
    file.close()
    return file.path


def points(line) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(*line.get_data(), strict=True) if not math.isnan(y)]


def test_both_curves_have_their_points(metrics) -> None:
    left, right = loss_figure(read_metrics(metrics)).axes
    curves = {line.get_label(): line for line in left.get_lines()}
    assert points(curves["training"]) == [(step, loss) for step, loss in STEPS.items() if not math.isnan(loss)]
    assert len(curves["training"].get_xdata()) == len(STEPS)  # the step that was not finite leaves a gap
    assert points(curves["validation"]) == [(step, nats) for step, (nats, _) in JUDGED.items()]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["training", "validation"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("step", "loss (nats per token)")
    assert left.get_xlim()[0] == 0
    assert left.get_title() == "Loss; best validation 0.700 bits per byte, at step 40"
    assert right.get_ylabel() == "perplexity"


def test_perplexities_stand_beside_the_losses_that_they_are(metrics) -> None:
    left, right = loss_figure(read_metrics(metrics)).axes
    assert right.get_ylim() == left.get_ylim()
    ticks = right.get_yticks()
    labels = [float(label.get_text().replace(",", "")) for label in right.get_yticklabels()]
    assert labels == pytest.approx([math.exp(tick) for tick in ticks])
    low, high = left.get_ylim()
    assert all(low <= tick <= high for tick in ticks)
    assert 5 <= len(ticks) <= 13
    assert min(b - a for a, b in pairwise(ticks)) >= (high - low) / 12
    assert all(label in (1, 1.5, 2, 3, 5, 7) for label in (float(f"{x:e}".split("e")[0]) for x in labels))


@pytest.mark.parametrize(
    ("told", "title"),
    [
        ([step_record(1)], "Loss"),
        ([evaluation_record(0)], "Loss; best validation 0.731 bits per byte, at step 0"),
        (
            [step_record(1, loss=math.nan), evaluation_record(1, nats_per_token=math.inf, bits_per_byte=math.nan)],
            "Loss",
        ),
        ([step_record(1, loss=800.0), step_record(2, loss=1e-9)], "Loss"),
    ],
)
def test_a_run_that_has_only_begun_or_gone_wrong_is_drawn_too(told, title, tmp_path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    for record in told:
        (file.after_evaluation if hasattr(record, "best") else file.after_step)(record)
    file.close()
    figure = loss_figure(read_metrics(file.path))
    assert figure.axes[0].get_title() == title
    LossPlot(file.path, tmp_path / "loss.png").close()
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_it_is_drawn_after_evaluations_and_at_the_end_only_where_there_is_news(metrics, tmp_path, monkeypatch) -> None:
    drawn: list[int] = []

    def draw(records):
        drawn.append(len(records))
        return loss_figure(records)

    monkeypatch.setattr("storylm.training.curves.loss_figure", draw)
    plot = LossPlot(metrics, tmp_path / "loss.png")
    plot.after_step(step_record(50))
    assert drawn == []
    plot.after_evaluation(evaluation_record(50))
    assert drawn == [8]
    os.utime(metrics, ns=(0, 0))
    plot.close()
    assert drawn == [8]
    os.utime(metrics)
    plot.close()
    assert drawn == [8, 8]


@pytest.mark.parametrize("content", [None, "", '{"kind": "st'])
def test_nothing_to_draw_is_no_picture_and_no_failure(content, tmp_path) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    LossPlot(tmp_path / "metrics.jsonl", tmp_path / "loss.png").close()
    assert not (tmp_path / "loss.png").exists()


def test_without_matplotlib_the_run_goes_on_and_that_is_said_once(metrics, tmp_path, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SetupError):
        loss_figure([])

    class Screen(Observer):
        said: list[str] = []  # noqa: RUF012

        def message(self, text: str) -> None:
            self.said.append(text)

    observers = Observers([LossPlot(metrics, tmp_path / "loss.png"), Screen()])
    for _ in range(3):
        observers.after_evaluation(evaluation_record(50))
    observers.close()
    assert Screen.said == ["the loss is not plotted, which needs matplotlib: pip install 'storylm[report]'"]
    assert not (tmp_path / "loss.png").exists()

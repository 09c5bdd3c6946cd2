"""The page of `storylm report`, and its charts."""

import math
import re
import sys
from itertools import pairwise

import pytest

from cli.telling import call
from report.reading import Page
from report.run_folders import run_folder
from storylm.cli.report import report
from storylm.config.errors import SetupError
from storylm.report.charts import COLOURS, MOST, Chart, Line, figure, svg, write_png
from storylm.report.run_page import run_charts, run_page
from storylm.report.runs import read_runs

pytest.importorskip("matplotlib", reason="needs storylm[report]")


@pytest.fixture
def folders(tmp_path):
    return [
        run_folder(tmp_path / "small", [(10, 2.0), (20, 1.0), (40, 0.8)], skipped=3),
        run_folder(tmp_path / "wide", [(10, 1.5), (20, 0.9)], ["model.width=64"], 4.0, ended=None),
    ]


def test_a_page_about_two_runs(folders, tmp_path) -> None:
    out = tmp_path / "page.html"
    said = call(report, *map(str, folders), "--out", str(out), "--png", str(tmp_path / "png")).stdout
    seen = Page(out.read_text(encoding="utf-8"))
    assert seen.needs_nothing()
    assert "small is best: 0.8000 bits per byte" in said
    assert "small is best: 0.8000 bits per byte" in seen.text
    strong = [row[2] for row in seen.all("strong")]
    assert strong == ["0.8000", "0.8000", "0.8000", "0.9000"]  # best; then at equal time and FLOPs; at equal tokens
    assert "not finished" in seen.text
    assert "near duplicates 7" in seen.text
    assert "3.40" in seen.text  # bytes a token
    quotes = [row[2] for row in seen.all("blockquote")]
    assert "Once upon <b> step 40.\nThe end." in quotes
    assert len(seen.all("svg")) == 8  # three budgets, perplexity, rate, speed, gradients, skipped
    pictures = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert pictures[:3] == ["bits-per-byte-flops.png", "bits-per-byte-seconds.png", "bits-per-byte-tokens.png"]
    assert all((tmp_path / "png" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_a_page_about_one_run_has_both_losses(folders) -> None:
    runs = read_runs(folders[1:])
    charts = run_charts(runs)
    validation, training = charts["bits-per-byte-tokens"].lines
    assert list(validation.points) == [(1000, 1.5), (2000, 0.9)]
    # 2.5 nats a token are 1 bit per byte here, and the training loss is 3 times the figure.
    assert [y for _, y in training.points] == pytest.approx([1.5 * 3 / 2.5, 0.9 * 3 / 2.5])
    assert "skipped" not in charts
    assert Page(run_page(runs)).text.count("wide") >= 2


def test_a_run_that_has_only_begun_has_a_page(tmp_path) -> None:
    begun = run_folder(tmp_path / "begun", [], ended=None)
    seen = Page(run_page(read_runs([begun])))
    assert "No run has been judged" in seen.text
    assert not seen.all("svg")


def test_lines_are_drawn_as_they_are() -> None:
    chart = Chart(
        "t", "x", "y", [Line("one", [(0, 9.0), (1, 2.0), (2, None), (20, 1.0)]), Line("two", [], 1)], settled=True
    )
    (axes,) = figure(chart).axes
    drawn = axes.get_lines()[0]
    assert list(drawn.get_xdata()) == [0, 1, 2, 20]
    assert math.isnan(drawn.get_ydata()[2])
    low, high = axes.get_ylim()
    assert low < 1.0 < high < 2.0  # what came before a tenth of the way is off the top
    assert [text.get_text() for text in axes.texts] == [" one"]


def test_long_lines_are_thinned_to_means() -> None:
    points = [(float(x), float(x % 2)) for x in range(MOST * 10)]
    (axes,) = figure(Chart("t", "x", "y", [Line("one", points)])).axes
    ys = axes.get_lines()[0].get_ydata()
    assert len(ys) == MOST
    assert set(ys) == {0.5}


def test_names_do_not_lie_on_each_other() -> None:
    lines = [Line(f"run {n}", [(0, 1.0), (1, 0.5 + n / 1000)], n) for n in range(5)]
    drawn = figure(Chart("t", "x", "y", [*lines, Line("high", [(0, 1.0), (1, 0.99)], 5)]))
    drawn.draw_without_rendering()
    (axes,) = drawn.axes
    boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
    assert len(boxes) == 6
    assert all(below.y1 <= above.y0 + 2 for below, above in pairwise(boxes))


def test_svg_takes_the_colours_of_the_page_and_is_the_same_twice() -> None:
    chart = Chart("t", "x", "y", [Line(f"<{n}>", [(1, 1.0), (2, n / 2)], n) for n in range(3)])
    drawn = svg(chart)
    assert drawn == svg(chart)
    assert not [colour for colour in COLOURS if colour in drawn]
    assert "var(--c0)" in drawn
    assert "var(--ink)" in drawn
    assert "&lt;2&gt;" in drawn
    ids = re.findall(r' id="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    Page(drawn)


def test_a_missing_package_is_named_with_its_extra(folders, tmp_path, monkeypatch) -> None:
    runs = read_runs(folders)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SetupError, match=r"charts need .* pip install 'storylm\[report\]'"):
        write_png(next(iter(run_charts(runs).values())), tmp_path / "chart.png")
    assert "no picture, since charts need matplotlib: pip install 'storylm[report]'" in Page(run_page(runs)).text
    assert not (tmp_path / "chart.png").exists()

"""What a sweep found: its table, its pictures, and the law, on runs whose losses are known."""

import sys
from dataclasses import replace
from itertools import product

import pytest

from report.reading import Page
from report.run_folders import run_folder
from storylm.config.errors import UsageError
from storylm.report.charts import write_pngs
from storylm.report.fitted import fitted
from storylm.report.law import Law
from storylm.report.runs import read_runs
from storylm.report.sweep_page import cells, chart, sweep_page
from storylm.report.sweep_rows import Row, ranked, warning

pytest.importorskip("matplotlib")
LAW = Law(0.4, 60.0, 0.4, 900.0, 0.5)


def row(folder, name: str, passes, ended: str | None = "finished", settings=(), **varied: str) -> Row:
    (run,) = read_runs([run_folder(folder / name, passes, settings, ended=ended)])
    return Row(name, varied, ended or "not finished", run)


@pytest.fixture
def rows(tmp_path) -> list[Row]:
    return [
        row(tmp_path, "a", [(10, 1.5), (20, 1.2)], lr="1e-3", preset="small"),
        row(tmp_path, "b", [(10, 1.4), (20, 0.9)], lr="1e-2", preset="small"),
        row(tmp_path, "c", [(10, 1.3), (20, 1.1)], lr="1e-3", preset="large"),
        row(tmp_path, "d", [], ended=None, lr="1e-2", preset="large"),
        Row("e", {"lr": "9", "preset": "small"}, "failed", None),
    ]


def test_the_best_is_first_and_failures_are_there(rows) -> None:
    assert [one.name for one in ranked(rows)] == ["b", "c", "a", "d", "e"]
    head, lines = cells(rows)
    assert head == ["lr", "preset", "bits per byte", "parameters", "tokens", "minutes", ""]
    assert lines[0][:3] == ["1e-2", "small", "0.9000"]
    assert lines[0][4:] == ["2,000", "0.3", "finished"]
    assert lines[-1] == ["9", "small", "-", "-", "-", "-", "failed"]


def test_a_line_for_each_combination_of_the_other_settings(rows) -> None:
    drawn = chart(rows)
    assert (drawn.x, drawn.log_x) == ("lr", True)
    assert {line.name: list(line.points) for line in drawn.lines} == {
        "small": [(1e-3, 1.2), (1e-2, 0.9)],
        "large": [(1e-3, 1.1)],
    }
    assert chart([Row("x", {"preset": "small"}, "failed", None)]) is None
    assert chart(rows[:1]) is None  # nothing varies


def test_the_page_says_which_is_best_and_needs_nothing(rows) -> None:
    seen = Page(sweep_page("Sweep one", rows))
    assert seen.needs_nothing()
    assert "Best of 5: lr 1e-2, small, 0.9000 bits per byte." in seen.text
    assert len(seen.all("svg")) == 2
    assert "No run is judged yet." in Page(sweep_page("Sweep one", rows[3:])).text


def test_what_diverged_is_behind_the_others_however_good_it_was(rows, tmp_path) -> None:
    diverged = row(tmp_path, "f", [(10, 1.4), (20, 0.2)], ended="diverged", lr="9", preset="small")
    assert [one.name for one in ranked([diverged, *rows])] == ["b", "c", "a", "f", "d", "e"]
    _, lines = cells([diverged, *rows])
    assert lines[3] == ["9", "small", "(0.2000)", lines[3][3], "2,000", "0.3", "diverged"]
    seen = Page(sweep_page("Sweep one", [diverged, *rows]))
    assert "Best of 6: lr 1e-2, small, 0.9000 bits per byte." in seen.text
    assert all(point[1] != 0.2 for line in chart([diverged, *rows]).lines for point in line.points)
    assert "Every run with a figure diverged or failed." in Page(sweep_page("Sweep one", [diverged])).text


def test_a_run_that_is_alone_has_its_name(tmp_path) -> None:
    (alone,) = [row(tmp_path, "story-1m", [(10, 1.5)])]
    head, lines = cells([alone])
    assert (head[0], lines[0][0]) == ("run", "story-1m")
    assert "story-1m, 1.5000 bits per byte." in Page(sweep_page("Sweep one", [alone])).text
    assert "Best of" not in Page(sweep_page("Sweep one", [alone])).text


def test_why_a_run_failed_is_in_the_table() -> None:
    _, lines = cells([Row("x", {"lr": "9"}, "failed", None, "no such thing")])
    assert lines[0][-1] == "failed: no such thing"


def test_without_matplotlib_there_is_a_page_that_says_so(rows, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    seen = Page(sweep_page("Sweep one", rows))
    assert "Best of 5" in seen.text
    assert "no picture, since charts need matplotlib: pip install 'storylm[report]'" in seen.text
    said: list[str] = []
    drawn = chart(rows)
    assert drawn is not None
    assert write_pngs({tmp_path / "x.png": drawn}, said.append) == []
    assert said == ["no pictures: charts need matplotlib: pip install 'storylm[report]'"]


def test_the_law_is_found_again(tmp_path) -> None:
    rows = []
    for layers in (1, 2, 4):
        for steps in (10, 40, 160):
            (run,) = read_runs([run_folder(tmp_path / f"{layers}-{steps}", [(steps, 1.0)], [f"model.layers={layers}"])])
            run.passes[0]["bits_per_byte"] = LAW.loss(run.parameters, run.passes[0]["tokens"])
            rows.append(Row(run.name, {"layers": str(layers)}, "finished", run))
    found = fitted(rows)
    assert found.error < 1e-4
    assert found.law.floor == pytest.approx(LAW.floor, rel=0.05)
    assert (found.law.a, found.law.b) == (pytest.approx(LAW.a, rel=0.05), pytest.approx(LAW.b, rel=0.05))
    assert f"{found.law.floor:.3f} + " in str(found)
    assert len([line for line in found.chart.lines if line.dashed]) == 3
    assert "The law" in Page(sweep_page("Sweep one", rows, found)).text
    assert "of 9 runs, " in str(found)
    assert "a: {:.3f} to {:.3f}".format(*found.ranges["a"]) in str(found)
    with pytest.raises(UsageError, match="6 runs or more, of several sizes"):
        fitted(rows[:5])
    with pytest.raises(UsageError, match=r"6 runs or more, .* here are 5"):
        fitted([*rows[:5], replace(rows[5], ended="diverged")])


def test_a_law_is_of_runs_that_were_judged_alike(tmp_path) -> None:
    rows = []
    for number, (layers, steps) in enumerate(product((1, 2, 4), (10, 40, 160))):
        settings = [f"model.layers={layers}", f"train.eval_stories={4 if number == 5 else 9}"]
        (run,) = read_runs([run_folder(tmp_path / f"{layers}-{steps}", [(steps, 1.0)], settings)])
        run.passes[0]["bits_per_byte"] = 9.0 if number == 5 else LAW.loss(run.parameters, run.passes[0]["tokens"])
        rows.append(Row(run.name, {"layers": str(layers)}, "finished", run))
    found = fitted(rows)
    assert (found.runs, found.error) == (8, pytest.approx(0, abs=1e-4))
    assert warning(rows).startswith("Beware: these runs were not judged by the same stories")
    assert warning(rows) in Page(sweep_page("Sweep one", rows)).text
    assert warning([*rows[:5], *rows[6:]]) == ""

"""What a sweep found: its table, its pictures, and the law, on runs whose losses are known."""

import pytest

from report.reading import Page
from report.run_folders import run_folder
from storylm.config.errors import UsageError
from storylm.report.law import Law
from storylm.report.runs import read_runs
from storylm.report.sweep_page import Row, cells, chart, fitted, ranked, sweep_page

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
    with pytest.raises(UsageError, match="5 runs or more, of several sizes"):
        fitted(rows[:4])
    with pytest.raises(UsageError, match="of 1 sizes"):
        fitted([rows[0]] * 6)

"""Runs side by side: who leads after equal budgets, by hand."""

import re

import pytest

from report.run_folders import run_folder
from storylm.config.errors import CheckpointError, UsageError
from storylm.model.count import flops_per_token
from storylm.report.compare import budgets, differing, figure_at, judged_alike, verdict
from storylm.report.runs import read_runs


@pytest.fixture
def runs(tmp_path):
    """`wide` is better a token, and slower and dearer."""
    folders = [
        run_folder(tmp_path / "a" / "small", [(10, 2.0), (20, 1.0), (40, 0.8)]),
        run_folder(tmp_path / "a" / "wide", [(10, 1.5), (20, 0.9)], ["model.width=64"], 4.0),
    ]
    return read_runs(folders)


def test_equal_budgets_are_interpolated(runs) -> None:
    small, _ = runs
    assert (figure_at(small, "tokens", 1500), figure_at(small, "tokens", 999)) == (1.5, None)
    by_axis = {budget.axis: budget for budget in budgets(runs)}
    assert by_axis["tokens"].amount == 2000
    assert by_axis["tokens"].figures == {"small": 1.0, "wide": 0.9}
    assert by_axis["seconds"].amount == 40
    assert by_axis["seconds"].figures == {"small": pytest.approx(0.8), "wide": pytest.approx(1.5)}
    costs = [flops_per_token(run.config.model, 64) for run in runs]
    assert by_axis["FLOPs"].amount == min(4000 * costs[0], 2000 * costs[1])
    assert [budget.winner for budget in budgets(runs)] == ["wide", "small", "small"]


def test_a_run_that_diverged_keeps_no_figure(tmp_path) -> None:
    """Its last good figure is not that of the budget which it has used since."""
    nan = float("nan")
    bad = run_folder(tmp_path / "bad", [(10, 2.0), (20, 0.5), (30, nan), (40, nan)])
    good = run_folder(tmp_path / "good", [(10, 2.0), (20, 1.5), (40, 1.0)])
    runs = read_runs([bad, good])
    figures = [figure_at(runs[0], "tokens", amount) for amount in (999, 1500, 2000, 2001, 3500, 4000, 4001)]
    assert figures == [None, 1.25, 0.5, None, None, None, None]
    by_axis = {budget.axis: budget for budget in budgets(runs)}
    assert by_axis["tokens"].figures == {"bad": None, "good": 1.0}
    assert by_axis["tokens"].winner is None
    back = run_folder(tmp_path / "back", [(10, 2.0), (20, nan), (40, 0.9)])
    (run,) = read_runs([back])
    assert [figure_at(run, "tokens", amount) for amount in (1000, 1500, 3000, 4000)] == [2.0, None, None, 0.9]


def test_an_evaluation_without_bits_per_byte_is_passed_over(tmp_path) -> None:
    folder = run_folder(tmp_path / "run", [(10, 1.0), (20, 0.9)])
    path = folder / "metrics.jsonl"
    path.write_text("".join(re.sub(r'"bits_per_byte": 1.0, ', "", line) for line in path.read_text().splitlines(True)))
    other = run_folder(tmp_path / "other", [(10, 1.0), (20, 1.0)])
    runs = read_runs([folder, other])
    assert "bits_per_byte" not in runs[0].passes[0]
    assert [figure_at(runs[0], "tokens", amount) for amount in (1000, 2000)] == [None, 0.9]
    assert verdict(runs).startswith("run is best: 0.9000")


def test_the_verdict_says_who_leads_and_what_differs(runs, tmp_path) -> None:
    words = verdict(runs)
    assert words.startswith("small is best: 0.8000 bits per byte, 0.1000 fewer than wide.")
    assert "It differs in model.width (32, not 64), model." in words
    assert ") and model.ff_width (128, not 256). It leads after" in words
    assert "It leads after as much time and as many FLOPs, too. But wide leads after as many tokens." in words
    assert set(differing(runs)) >= {"model.width", "model.head_dim", "model.ff_width"}
    assert "name" not in differing(runs)
    assert verdict(runs[:1]) == "0.8000 bits per byte at its best, at step 40; finished."
    more = run_folder(tmp_path / "more", [(10, 3.0)], ["model.width=64", "model.layers=3", "train.eval_stories=3"])
    assert "not 64), model.head_dim (" in (words := verdict([runs[0], *read_runs([more])]))
    assert " and 2 settings more. It leads" in words


def test_runs_judged_by_other_stories_are_told_apart(tmp_path) -> None:
    first = run_folder(tmp_path / "first", [(1, 1.0)])
    other = run_folder(tmp_path / "other", [(1, 1.0)], data="e" * 64)
    fewer = run_folder(tmp_path / "fewer", [(1, 1.0)], ["train.eval_stories=3"])
    again = run_folder(tmp_path / "again", [(1, 1.0)])
    alike = [judged_alike(read_runs([first, folder])) for folder in (other, fewer, again)]
    assert alike == [False, False, True]


def test_names_are_as_short_as_tells_them_apart(tmp_path) -> None:
    folders = [run_folder(tmp_path / name / "run", [(1, 1.0)]) for name in ("one", "two")]
    assert [run.name for run in read_runs(folders)] == ["one/run", "two/run"]
    with pytest.raises(UsageError, match="each once"):
        read_runs([folders[0], folders[0]])
    with pytest.raises(CheckpointError, match="holds no run"):
        read_runs([tmp_path])


def test_runs_that_have_only_begun(tmp_path) -> None:
    begun = run_folder(tmp_path / "begun", [], ended=None)
    for name in ("metrics.jsonl", "samples.md", "manifest.json", "checkpoints/last/trainer_state.json"):
        (begun / name).unlink(missing_ok=True)
    other = run_folder(tmp_path / "other", [(10, 1.0)])
    runs = read_runs([begun, other])
    assert runs[0].newest == {}
    assert budgets(runs) == []
    assert verdict(runs).startswith("other is best: 1.0000 bits per byte.")
    assert verdict(runs[:1]) == "No run has been judged by validation stories yet."


def test_what_a_crash_left_is_passed_over(tmp_path) -> None:
    folder = run_folder(tmp_path / "run", [(10, 1.0), (20, 0.9)], ended=None)
    lines = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(
        lines + '{"kind": "step", "step": 30}\n{"kind": "evaluation", "step": 30, "bits'
    )
    (folder / "manifest.json").write_text('{"sessions": [')
    (run,) = read_runs([folder])
    assert [record["step"] for record in run.passes] == [10, 20]
    assert [record["step"] for record in run.steps] == [10, 20]
    assert run.ended is None
    assert run.samples[-1] == (20, "Tom upon <b> step 20.\nThe end.")

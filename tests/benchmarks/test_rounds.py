"""Rounds of turns and what they come to."""

import json
import sys

import pytest
from peers import rounds
from peers.turn import Turn


def one(lap_seconds: list[float], start: float = 1.0) -> dict:
    return {
        "lap_seconds": lap_seconds,
        "start_seconds": start,
        "peak_bytes": 7,
        "first_loss": 5.0,
        "last_loss": 4.0,
        "version": "1",
    }


def test_turns_alternate_and_who_failed_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def run_child(turn: Turn, threads: int | None) -> dict:
        taken.append(turn.contender)
        return {"failed": "no"} if turn.contender == "plain" else one([1.0])

    monkeypatch.setattr(rounds, "run_child", run_child)
    turns = [Turn(name, "xs-3m", (), "", "") for name in ("storylm", "plain", "trainer")]
    measured = rounds.run_rounds(turns, rounds=2)
    assert taken == ["storylm", "plain", "trainer", "storylm", "trainer"]
    assert [len(of) for of in measured.values()] == [2, 1, 2]


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was half as fast in the second round: both were, so the ratio is the same."""
    measured = {
        "storylm": [one([0.1, 0.1, 9.0], start=30.0), one([0.2] * 3, start=4.0), one([0.1] * 3, start=6.0)],
        "plain": [one([1.0] * 3, start=2.0), one([2.0] * 3, start=2.0), one([1.0] * 3, start=2.0)],
        "trainer": [{"failed": "out of memory"}],
    }
    ours, plain, trainer = rounds.summary(measured, tokens_per_lap=640, lap_steps=10, baseline="plain", roof=64_000.0)
    assert ours["tokens_per_second"] == {"median": 6400.0, "min": 3200.0, "max": 6400.0}
    assert ours["times_baseline"] == {"median": 10.0, "min": 10.0, "max": 10.0}
    assert (ours["share_of_ceiling"], plain["share_of_ceiling"]) == (0.1, 0.01)
    assert (ours["step_seconds"], plain["step_seconds"]) == (0.01, 0.1)
    assert ours["start_seconds"] == {"cold": 30.0, "warm": 5.0}
    assert ours["break_even_steps"] == {"cold": 312, "warm": 34}  # 28 s and 3 s later, 0.09 s gained in a step
    assert "break_even_steps" not in plain
    assert trainer == {"contender": "trainer", "failed": "out of memory"}


@pytest.mark.parametrize(
    ("later", "gain", "steps"), [(30.0, 0.5, 60), (30.1, 0.5, 61), (-1.0, 0.5, 0), (3.0, 0.0, None), (-1.0, -0.5, None)]
)
def test_a_late_start_is_made_up_for_by_faster_steps_only(later: float, gain: float, steps: int | None) -> None:
    assert rounds.break_even(later, gain) == steps


def test_without_the_baseline_there_are_no_ratios() -> None:
    (ours,) = rounds.summary({"storylm": [one([1.0])]}, 64, 1, "plain", 100.0)
    assert "times_baseline" not in ours
    assert ours["start_seconds"] == {"cold": 1.0}  # a single round has no warm start


def test_a_process_that_fails_says_why(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "BENCHMARKS", tmp_path)
    (tmp_path / "grumpy.py").write_text("raise SystemExit('not today')")
    assert rounds.run_module("grumpy", [], tmp_path / "r.json") == {"failed": "not today"}
    (tmp_path / "killed.py").write_text("import os; os.kill(os.getpid(), 9)")
    if sys.platform == "linux":
        assert "memory" in rounds.run_module("killed", [], tmp_path / "r.json")["failed"]
    (tmp_path / "fine.py").write_text(
        "import json, os, sys; json.dump([os.environ['OMP_NUM_THREADS'], os.environ['A']], open(sys.argv[1], 'w'))"
    )
    assert rounds.run_module("fine", [], tmp_path / "r.json", threads=3, A="b") == json.loads('["3", "b"]')

"""Naming contenders and timing laps."""

import pytest
from peers import turn as turn_module
from peers.turn import Finished, Laps, Turn


def a_turn(**changes) -> Turn:
    return Turn("trainer-bf16-compile", "xs-3m", ("a=1", "b=2"), "t.bin", "folder", **changes)


def test_a_name_is_a_kind_and_flags() -> None:
    assert (a_turn().kind, a_turn().flags) == ("trainer", {"bf16", "compile"})
    with pytest.raises(ValueError, match="fp23"):
        _ = Turn("plain-fp23", "xs-3m", (), "", "").flags


def test_a_turn_survives_its_file(tmp_path) -> None:
    turn = a_turn(lap_steps=10, nanogpt="elsewhere")
    turn.write(tmp_path / "turn.json")
    assert Turn.read(tmp_path / "turn.json") == turn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(turn_module.time, "monotonic", lambda: now[0])
    return now


def test_warm_up_is_not_timed_and_counts_as_the_start(clock: list[float]) -> None:
    laps = Laps(a_turn(warmup_laps=2, laps=3, seconds=0.0), started=90.0)
    for seconds in (30.0, 3.0, 2.0, 1.0):
        clock[0] += seconds
        laps.lap(loss=5.0)
    clock[0] += 9.0
    with pytest.raises(Finished):
        laps.lap(loss=4.0)
    assert laps.seconds == [2.0, 1.0, 9.0]
    assert laps.start_seconds == 10.0 + 33.0 - 2 * 2.0
    assert (laps.losses[0], laps.losses[-1]) == (5.0, 4.0)


def test_fast_laps_go_on_until_the_time_is_up(clock: list[float]) -> None:
    laps = Laps(a_turn(warmup_laps=1, laps=2, seconds=5.0), started=100.0)
    for _ in range(5):
        clock[0] += 1.0
        laps.lap(1.0)
    clock[0] += 1.0
    with pytest.raises(Finished):
        laps.lap(1.0)
    assert laps.seconds == [1.0] * 5

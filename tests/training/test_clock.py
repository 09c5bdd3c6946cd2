"""Clocks: how far a run is, and when it is over."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.training.clock import MinuteClock, StepClock
from training.now import Now


def test_steps_are_counted_whatever_they_take(now: Now) -> None:
    clock = StepClock(8)
    clock.observe(1e9, 1e9)
    now.seconds += 1e9
    assert [clock.progress(step) for step in (0, 2, 7, 8, 12)] == [0, 0.25, 0.875, 1, 1.5]


def test_minutes_begin_when_the_clock_is_made(now: Now) -> None:
    now.seconds += 500
    clock = MinuteClock(minutes=2)
    assert clock.progress(0) == 0
    now.seconds += 30
    assert clock.progress(5) == 0.25
    now.seconds += 90
    assert clock.progress(9) == 1


def test_what_comes_before_the_second_step_is_no_share_of_the_run(now: Now) -> None:
    """Preparing and compiling: a warm-up of a tenth would be over before the second step."""
    clock = MinuteClock(minutes=2)
    now.seconds += 5
    assert clock.progress(0) == 0
    now.seconds += 15
    assert clock.progress(1) == 0
    now.seconds += 10
    assert clock.progress(2) == 0.1
    now.seconds += 90
    assert clock.progress(20) == 1
    assert MinuteClock(minutes=2, before=30, lead=20).progress(3) == 0.1


def test_seconds_before_an_interruption_count(now: Now) -> None:
    clock = MinuteClock(minutes=1, before=45)
    assert clock.progress(10) == 0.75
    now.seconds += 7.5
    assert clock.progress(11) == 0.875


def test_the_end_is_reserved(now: Now) -> None:
    clock = MinuteClock(minutes=1)
    clock.observe(seconds_per_step=1, reserve=20)
    now.seconds += 20
    assert clock.progress(20) == 0.5
    now.seconds += 19
    assert clock.progress(39) == 0.975  # one more step ends just in time
    now.seconds += 0.01
    assert clock.progress(40) == 1  # the next would not


def test_at_least_one_step_is_made(now: Now) -> None:
    clock = MinuteClock(minutes=1)
    clock.observe(seconds_per_step=120, reserve=0)
    assert clock.progress(0) == 0
    assert clock.progress(1) == 1
    clock.observe(seconds_per_step=0, reserve=600)  # more than there is
    now.seconds += 1
    assert clock.progress(0) >= 1
    assert clock.progress(1) == 1


@given(seconds=st.floats(0.01, 30), reserve=st.floats(0, 30), minutes=st.floats(1, 20), before=st.floats(0, 25))
def test_a_run_ends_on_time_and_not_a_step_early(seconds: float, reserve: float, minutes: float, before: float) -> None:
    now, step = Now(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", now)
        clock, began, shares = MinuteClock(minutes, before), now.seconds, []
        clock.observe(max(seconds, minutes / 10), reserve)
        while (share := clock.progress(step)) < 1:
            shares.append(share)
            now.seconds += clock.seconds_per_step
            step += 1
    left = minutes * 60 - (before + now.seconds - began) - reserve
    assert shares == sorted(shares)
    assert left >= -1e-6 or step == 1
    assert left < clock.seconds_per_step + 1e-6

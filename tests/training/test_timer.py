"""The timer: steps without what falls between them, the whole run with it."""

from contextlib import suppress

from storylm.training.timer import Timer
from training.now import Now


def steps(timer: Timer, now: Now, *seconds: float, tokens: int = 100) -> None:
    for each in seconds:
        now.seconds += each
        timer.step(tokens)


def test_the_step_that_compiles_is_not_typical(now: Now) -> None:
    timer = Timer()
    assert timer.seconds_per_step == 0
    steps(timer, now, 60)
    assert timer.seconds_per_step == 0
    steps(timer, now, 2)
    assert timer.seconds_per_step == 2


def test_seconds_per_step_is_the_median_of_the_last_sixteen(now: Now) -> None:
    timer = Timer()
    steps(timer, now, 60, 1, 9, 2)
    assert timer.seconds_per_step == 2
    steps(timer, now, *[4] * 16)
    assert timer.seconds_per_step == 4
    steps(timer, now, *[8] * 7)
    assert timer.seconds_per_step == 4
    steps(timer, now, 8)
    assert timer.seconds_per_step == 8


def test_tokens_per_second_are_of_the_steps_since_asked(now: Now) -> None:
    timer = Timer()
    steps(timer, now, 4, 6, tokens=500)
    assert timer.tokens_per_second() == 100
    steps(timer, now, 2, tokens=500)
    assert timer.tokens_per_second() == 250
    assert timer.tokens_per_second() == 0


def test_a_pause_is_no_part_of_a_step_but_of_the_run(now: Now) -> None:
    timer = Timer()
    timer.before = 1000
    steps(timer, now, 5, 1)
    with timer.pause():
        now.seconds += 50
    steps(timer, now, 3)
    assert timer.seconds_per_step == 3
    now.seconds += 0.5
    with timer.pause():
        now.seconds += 20
    steps(timer, now, 0.5)  # one in the middle of a step counts neither
    assert timer.seconds_per_step == 1
    assert timer.tokens_per_second() == 400 / 10
    assert timer.elapsed() == 1000 + 80


def test_a_pause_that_fails_is_left_out_as_well(now: Now) -> None:
    timer = Timer()
    steps(timer, now, 5)
    with suppress(ValueError), timer.pause():
        now.seconds += 50
        raise ValueError
    steps(timer, now, 3)
    assert timer.seconds_per_step == 3


def test_seconds_since_the_last_checkpoint(now: Now) -> None:
    timer = Timer()
    timer.before = 1000
    now.seconds += 30
    assert timer.since_save() == 30
    timer.saved()
    now.seconds += 4
    assert timer.since_save() == 4
    assert timer.elapsed() == 1034

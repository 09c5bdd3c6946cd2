"""Ctrl-C and SIGTERM: the first asks, the second insists, and afterwards everything is as it was."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from storylm.training.signals import StopSignal

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def own() -> object:
    """Handlers of this test's own, so that one that failed to be put back harms no other."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    mine: Callable = lambda number, frame: None  # noqa: E731
    for number in NUMBERS:
        signal.signal(number, mine)
    yield mine
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_only_asks(number, exit_code, own) -> None:
    with StopSignal() as stop:
        assert (stop.requested, stop.exit_code) == (False, 0)
        signal.raise_signal(number)
        assert (stop.requested, stop.exit_code) == (True, exit_code)
    assert (stop.requested, stop.exit_code) == (True, exit_code)
    assert [signal.getsignal(each) for each in NUMBERS] == [own, own]


@pytest.mark.parametrize(("first", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_another_ctrl_c_ends_at_once_and_the_handlers_are_put_back(first, exit_code, own) -> None:
    def insist() -> None:
        with stop:
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("went on")

    stop = StopSignal()
    with pytest.raises(KeyboardInterrupt):
        insist()
    assert stop.exit_code == exit_code
    assert [signal.getsignal(each) for each in NUMBERS] == [own, own]


def test_sigterm_asks_as_often_as_it_likes() -> None:
    """Schedulers send it several times, to the whole process group."""
    with StopSignal() as stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
    assert stop.exit_code == 130  # by what came first


def test_ctrl_c_is_answered_sigterm_is_not(capfd) -> None:
    with StopSignal():
        signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err == ""
    with StopSignal():
        signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == "\nstopping after this step and saving; Ctrl-C again stops at once\n"


def test_an_answer_that_no_one_can_read_is_no_failure(monkeypatch) -> None:
    def closed(descriptor: int, data: bytes) -> int:
        raise OSError("closed")

    with StopSignal() as stop:
        monkeypatch.setattr(os, "write", closed)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.undo()
    assert stop.requested


def test_the_handlers_are_put_back_after_an_error(own) -> None:
    def fail() -> None:
        with StopSignal():
            assert own not in [signal.getsignal(each) for each in NUMBERS]
            raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        fail()
    assert [signal.getsignal(each) for each in NUMBERS] == [own, own]


def test_what_the_parent_process_had_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_the_main_thread_nothing_is_handled_and_nothing_fails(own) -> None:
    seen: list[object] = []

    def work() -> None:
        with StopSignal() as stop:
            seen.extend([signal.getsignal(each) for each in NUMBERS])
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [own, own, False]
    assert [signal.getsignal(each) for each in NUMBERS] == [own, own]

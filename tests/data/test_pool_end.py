"""Processes that do tasks come to an end, whatever became of one of them."""

import multiprocessing
import signal
import time
from concurrent.futures import Executor

from storylm.data.preparing.pool import end


class Joining(Executor):
    """Ends as Python's pool of processes does: by waiting for each."""

    def __init__(self, *processes):
        self._processes, self._mine = dict(enumerate(processes)), processes

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._processes = None
        for process in self._mine if wait else ():
            process.join(30)
            assert process.exitcode is not None, "it waits for ever"


def test_who_waits_for_what_a_killed_one_holds_is_ended_too():
    context = multiprocessing.get_context("spawn")
    never = context.Event()  # as a lock whose holder was killed
    killed, waiting = (context.Process(target=never.wait) for _ in range(2))
    for process in (killed, waiting):
        process.start()
    killed.kill()
    end(Joining(killed, waiting))
    assert [killed.exitcode, waiting.exitcode] == [-signal.SIGKILL, -signal.SIGTERM]


def test_nobody_is_ended_who_is_about_to():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.5,))
    process.start()
    end(Joining(process))
    assert process.exitcode == 0

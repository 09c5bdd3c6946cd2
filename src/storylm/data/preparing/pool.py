"""Independent tasks in several processes (or one thread), in order, watched while they run, stopped within a second."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from storylm.config.errors import SetupError
from storylm.data.preparing.tasks import Result, Task, Tell, carry_out

Item = TypeVar("Item")
WATCH_SECONDS = 0.5
SMALL_BYTES = 32 * 2**20  # of text to read and clean: for fewer, starting processes takes longer than it saves
_here = threading.local()  # the tally that tasks of this thread, or of this process, add to


class StoppedError(Exception):
    """Raised in tasks once nobody waits for them any more."""


class Tally:
    """What all tasks together have done so far, whichever process they run in."""

    def __init__(self, counts: Any, stop: Any, lock: Any):
        self._counts, self._stop, self._lock = counts, stop, lock

    @classmethod
    def local(cls) -> "Tally":
        return cls([0, 0, 0], threading.Event(), threading.Lock())

    @classmethod
    def shared(cls, context: Any) -> "Tally":
        return cls(context.Array("q", 3, lock=False), context.Event(), context.Lock())

    def add(self, text_bytes: int = 0, stories: int = 0, tokens: int = 0) -> None:
        """Called by tasks as they go on; this is also where they notice that they are to stop."""
        if self._stop.is_set():
            raise StoppedError
        with self._lock:
            for index, more in enumerate((text_bytes, stories, tokens)):
                self._counts[index] += more

    def read(self) -> tuple[int, int, int]:
        """Bytes of text, stories, tokens."""
        return self._counts[0], self._counts[1], self._counts[2]

    def stop(self) -> None:
        self._stop.set()


def tally() -> Tally:
    """The tally of the task that calls; a new one outside of tasks."""
    return getattr(_here, "tally", None) or Tally.local()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Pool:
    """`workers` processes of this machine (None: one for each core, or none but this one for little work)."""

    workers: int | None = None

    def run(self, tasks: Sequence[Task[Result]], size: int, work: Path, tell: Tell) -> Iterator[Result]:
        """As `tasks.Executor` says."""
        return run(carry_out, tasks, self.workers or (cores() if size > SMALL_BYTES else 1), tell)


def run(
    function: Callable[[Item], Result],
    tasks: Sequence[Item],
    workers: int,
    watch: Tell = lambda tally, finished: None,
) -> Iterator[Result]:
    """`map(function, tasks)` by `workers` processes; by a thread of this one where `workers` is 1.

    Args:
        function: of a module's top level; it may call `tally().add`.
        watch: called twice a second with the tally and the numbers of finished tasks.

    Raises:
        SetupError: a process died.
        Whatever a task raised; no further task is begun then, and those that run stop at their next `tally().add`.
    """
    workers = max(1, min(workers, len(tasks)))
    if workers == 1:
        executor, counts = ThreadPoolExecutor(1, initializer=_begin, initargs=(counts := Tally.local(),)), counts
    else:
        context = multiprocessing.get_context("spawn")  # forking a process with threads (torch, tokenizers) can hang
        counts = Tally.shared(context)
        executor = ProcessPoolExecutor(workers, context, initializer=_begin_process, initargs=(counts,))
    try:
        yield from _results(executor, function, tasks, lambda finished: watch(counts, finished))
    except BrokenProcessPool as error:
        raise SetupError("a worker process died, perhaps for lack of memory: try fewer --workers") from error
    finally:
        counts.stop()
        end(executor)


def end(executor: Executor) -> None:
    """Wait for its processes to end; where one of them was killed, end the others.

    One that is killed while it takes a task keeps the lock on them. Python's own `shutdown` joins the others all the
    same, which wait for that lock for ever.
    """
    processes = list((getattr(executor, "_processes", None) or {}).values())  # before `shutdown` forgets them
    executor.shutdown(wait=False, cancel_futures=True)
    while alive := [process for process in processes if process.is_alive()]:
        if any(process.exitcode for process in processes):
            for process in alive:
                process.terminate()
        multiprocessing.connection.wait([process.sentinel for process in alive], WATCH_SECONDS)
    executor.shutdown()


def _results(
    executor: Executor,
    function: Callable[[Item], Result],
    tasks: Sequence[Item],
    tick: Callable[[list[int]], None],
) -> Iterator[Result]:
    with main_hidden():
        futures: list[Future[Result]] = [executor.submit(function, task) for task in tasks]
    for future in futures:
        while not future.done():
            wait([future], WATCH_SECONDS, FIRST_COMPLETED)
            tick([number for number, one in enumerate(futures) if one.done()])
            for failed in futures:  # a later task's failure need not wait for its turn
                if failed.done() and not failed.cancelled() and failed.exception() is not None:
                    failed.result()
        yield future.result()


def _begin(counts: Tally) -> None:
    _here.tally = counts


def _begin_process(counts: Tally) -> None:
    _begin(counts)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent says when to stop
    parent = multiprocessing.parent_process()
    if parent is not None:  # a killed parent must not leave its workers waiting for ever
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def main_hidden() -> Iterator[None]:
    """So that new processes do not run the caller's script again, which need not have `if __name__ == "__main__"`.

    They need nothing of it: tasks and functions are storylm's own.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main

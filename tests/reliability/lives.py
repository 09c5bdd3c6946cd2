"""Processes to be killed, stopped and starved: each a fork of one that has storylm imported, so that a start is cheap.

A process tells what it does as events, each a tuple, and those come through whatever becomes of it.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
# All that a run imports, also what torch's optimizers and the plot import late.
CONTEXT.set_forkserver_preload(["storylm.cli.train", "storylm.training.run", "torch._dynamo", "matplotlib.figure"])
PATIENCE = 600.0  # seconds until a process counts as hung: only a test that fails waits so long
Tell = Callable[..., None]
BEGUN: "list[Life]" = []


class Life:
    """`target(tell, *arguments)` in a process of its own; `tell(event, ...)` there is an event here.

    >>> life = Life(train, config, out)                                             # doctest: +SKIP
    >>> life.end(), life.events[-1], life.output                                    # doctest: +SKIP
    (0, ('saved', 12), 'finished at step 12...')
    """

    def __init__(self, target: Callable[..., None], *arguments: Any):
        self._told, tell = CONTEXT.Pipe(duplex=False)
        self._printed, printer = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_live, args=(tell, printer, target, arguments))
        self.process.start()
        tell.close()
        printer.close()
        BEGUN.append(self)
        self.events: list[tuple] = []
        self.output = ""

    def wait_for(self, event: str, times: int = 1) -> bool:
        """Whether so many of these events come before the end of the process."""
        while self.count(event) < times:
            try:
                assert self._told.poll(PATIENCE), f"no {event!r} after {self.events}"
                self.events.append(self._told.recv())
            except EOFError:
                return False
        return True

    def count(self, event: str) -> int:
        """How often such an event came."""
        return sum(told[0] == event for told in self.events)

    def last(self, event: str, otherwise: int) -> int:
        """The first value of the newest such event."""
        return next((told[1] for told in reversed(self.events) if told[0] == event), otherwise)

    def kill(self, number: int) -> None:
        """Send it a signal."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, number)

    def end(self) -> int:
        """Wait for the end: the exit code, or minus the number of the signal that ended it."""
        self.wait_for("no such event")
        while part := os.read(self._printed.fileno(), 65536):
            self.output += part.decode(errors="replace")
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, "hung"
        return self.process.exitcode


def end_all() -> None:
    """Kill what a test that failed left behind, which pytest would wait for."""
    while BEGUN:
        BEGUN.pop().kill(signal.SIGKILL)


def _live(told: Connection, printer: Connection, target: Callable[..., None], arguments: tuple) -> None:
    # Pipes, not files: what limits or fills the files of this process is no affair of theirs.
    for descriptor in (1, 2):
        os.dup2(printer.fileno(), descriptor)
    printer.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the fork server was started without
    target(lambda *event: told.send(event), *arguments)

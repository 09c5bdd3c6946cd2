"""What runs in the processes of `lives`: the command line as users start it, watched, and fated to something."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from reliability.lives import Tell
from storylm.cli import main
from storylm.training.checkpoint import Checkpoints
from storylm.training.learner import Learner
from training.crashes import Disk


@dataclass(frozen=True)
class Fate:
    """What befalls a process, once: `signal` at file operation number `operation`, or after `cpu` seconds of work.

    A SIGKILL may come at any time, and leaves half of the file that is being written. Others wait for the first
    update: before it there is nothing to lose.
    """

    signal: int
    operation: int | None = None
    cpu: float | None = None

    @property
    def deadly(self) -> bool:
        return self.signal == signal.SIGKILL


class _Operations(Disk):
    """Does something at one operation on files, which goes on."""

    def __init__(self, number: int, action: Callable[[], None]):
        super().__init__(number, AssertionError)
        self.action = action

    def _fails(self, name: str) -> bool:
        self.calls.append(name)
        if len(self.calls) == self.fails_at + 1:
            self.action()
        return False


def train(
    tell: Tell, config: Path, out: Path, fate: Fate | None = None, at: tuple[int, Callable[[], None]] | None = None
) -> None:
    """`storylm train`, telling "updated", "saving" s, "saved" s, "struck" and, at the end, "spent" CPU seconds.

    `at` (n, action): what happens before update n of this process.
    """
    with ExitStack() as stack:

        def begin(fate: Fate) -> None:
            def strike() -> None:
                # Once the run has ended and put the handlers back, a signal is no affair of it.
                if fate.deadly or signal.getsignal(fate.signal) not in (signal.SIG_DFL, signal.default_int_handler):
                    tell("struck", time.process_time())
                    os.kill(os.getpid(), fate.signal)

            if fate.operation is not None:
                disk = Disk(fate.operation, strike) if fate.deadly else _Operations(fate.operation, strike)
                stack.enter_context(disk.at_work())
            if fate.cpu is not None:
                signal.signal(signal.SIGPROF, lambda *_: strike())
                signal.setitimer(signal.ITIMER_PROF, fate.cpu)

        updates = 0
        update, save = Learner.update, Checkpoints.save

        def watched_update(*arguments, **options):
            nonlocal updates
            updates += 1
            if updates == 1 and fate is not None and not fate.deadly:
                begin(fate)
            if at is not None and updates == at[0]:
                at[1]()
            done = update(*arguments, **options)
            tell("updated")
            return done

        def watched_save(self, state, **options):
            tell("saving", state.step)
            folder = save(self, state, **options)
            tell("saved", state.step)
            return folder

        stack.enter_context(patch.object(Learner, "update", watched_update))
        stack.enter_context(patch.object(Checkpoints, "save", watched_save))
        tell("born")
        if fate is not None and fate.deadly:
            begin(fate)
        sys.argv = ["storylm", "train", "--config", str(config), "--out", str(out)]
        try:
            main()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            tell("spent", time.process_time())


def limit_files(size: int) -> None:
    """From now on no file of this process may have more bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fill_disk(ballast: Path, room: int) -> None:
    """Leave no more than `room` bytes on the disk that the file `ballast` is on."""
    free = os.statvfs(ballast.parent).f_bavail * os.statvfs(ballast.parent).f_frsize
    ballast.write_bytes(bytes(max(0, free - room)))


def insisted(tell: Tell, config: Path, out: Path, after: int) -> None:
    """Ctrl-C during update number `after`, which then takes for ever: "waiting" for another one."""
    update, updates = Learner.update, []

    def endless(*arguments, **options):
        updates.append(1)
        if len(updates) == after:
            os.kill(os.getpid(), signal.SIGINT)
            tell("waiting")
            while True:
                time.sleep(0.01)
        return update(*arguments, **options)

    with patch.object(Learner, "update", endless):
        train(tell, config, out)

"""The processes of a sweep: one trains one point, and whoever ends the sweep has them all save first."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from storylm.training.sweep.grid import Point
from storylm.training.sweep.places import Places

WINDOWS = sys.platform == "win32"  # where no process can be asked to stop: it is ended
ENDINGS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
_PAUSE = 0.1  # seconds between looks at the processes


@dataclass(frozen=True)
class Running:
    """A process that trains a point, and in which of the places."""

    process: "subprocess.Popen[bytes]"
    point: Point
    place: int


def train_command(point: Point, folder: Path) -> list[str]:
    """What trains a point, in a process of its own."""
    return [sys.executable, "-P", "-m", "storylm", "train", point.preset, *point.overrides, "--out", str(folder)]


class Processes:
    """Those that run. In the block of `handed_on`, Ctrl-C, SIGTERM, a closed terminal (SIGHUP) and mistakes are handed
    on to each; once all have saved, the block ends as it was to."""

    def __init__(self, places: Places):
        self._places, self.running = places, list[Running]()

    def __len__(self) -> int:
        return len(self.running)

    @property
    def full(self) -> bool:
        return len(self.running) >= self._places.jobs

    def start(self, point: Point, folder: Path, log: Path) -> str:
        """Train the point into the folder, in a place that is free; when that was."""
        place = min(set(range(self._places.jobs)) - {one.place for one in self.running})
        environment = {**os.environ, **self._places.environment(place)}
        with log.open("ab") as file:
            # In a session of its own, or Ctrl-C would reach it twice: from the terminal and from here.
            process = subprocess.Popen(
                train_command(point, folder), stdout=file, stderr=file, env=environment, start_new_session=True
            )
        self.running.append(Running(process, point, place))
        return datetime.now(UTC).isoformat(timespec="seconds")

    def ended(self) -> Iterator[Running]:
        """Those that have ended since; waits a moment where none has."""
        over = [one for one in self.running if one.process.poll() is not None]
        if not over:
            time.sleep(_PAUSE)
        for one in over:
            self.running.remove(one)
            yield one

    @contextmanager
    def handed_on(self) -> Iterator[None]:
        """The block in which they run."""

        def end(number: int, frame: FrameType | None) -> None:
            raise SystemExit(128 + number)

        # What is ignored, as `nohup` has SIGHUP, stays so.
        mine = [number for number in ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, end) for number in mine}
        try:
            yield
        except BaseException as stop:
            self._stop(signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int) -> None:
        """Ask all to stop, and wait until they have. Whoever asks again has them asked again: they leave at once."""
        while alive := [one.process for one in self.running if one.process.poll() is None]:
            try:
                for process in alive:
                    ask_to_stop(process, number)
                for process in alive:
                    process.wait()
            except (KeyboardInterrupt, SystemExit):
                continue


def ask_to_stop(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send the signal, where there are any."""
    if WINDOWS:
        process.terminate()
    else:
        process.send_signal(number)

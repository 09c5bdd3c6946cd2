"""Runs of a sweep, each in a process of its own, some at a time. What is finished is never run again."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from storylm.config.errors import UsageError
from storylm.config.files import write_text
from storylm.data.cache import LOCK, locked
from storylm.training.run_folder import differences, saved_config, with_absolute_paths
from storylm.training.sweep.grid import Point

RECORD = "sweep.json"
DIVERGED = 1  # exit code of `storylm train`
DONE = ("finished", "no gain", "diverged")
_PAUSE = 0.1  # seconds between looks at the processes


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended: "finished", "no gain", "diverged" or "failed". `figure`: its fewest bits per byte on
    validation; `why`: the last line of its log where it failed."""

    ended: str
    figure: float | None
    why: str = ""

    def __str__(self) -> str:
        figure = "" if self.figure is None else f", {self.figure:.4f} bits per byte"
        return f"{self.ended}{figure}{f' ({self.why})' if self.why else ''}"


class Source(Protocol):
    """Where points come from: a list, or a search that learns from what it is told. `total`: how many there will be."""

    total: int

    def ask(self) -> Point | None:
        """The next point to run; None if there is none, for now at least."""
        ...

    def tell(self, point: Point, outcome: Outcome) -> None:
        """A point is done."""
        ...


class Sweep:
    """Runs in `folder`, one folder with a log beside it for each point, and `sweep.json` of how they ended.

    Raises `UsageError` where the folder holds other things.
    """

    def __init__(self, folder: Path):
        self.folder, self._path = folder, folder / RECORD
        others = {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()
        if others and RECORD not in others:
            raise UsageError(f"{folder} is not empty and holds no sweep: choose another --out")
        self.record = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """What is written down of each run, by name."""
        if not self._path.is_file():
            return {}
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8"))["runs"])
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{self._path} is damaged ({error}) and made anew from the runs' folders", stacklevel=3)
            return {}

    def outcome(self, point: Point) -> Outcome | None:
        """How a point ended; None where it has still to be run, or run again since it failed.

        Raises `UsageError` where its folder has a run with other settings, or its own cannot be.
        """
        config, there = with_absolute_paths(point.config), saved_config(self.folder / point.name)
        if there is not None and there != config:
            raise UsageError(
                f"{self.folder / point.name} holds a run with other settings ({differences(there, config)}): choose "
                "another --out for this sweep"
            )
        state = _state(self.folder / point.name)
        kept = self.record.get(point.name, {}).get("ended")
        ended = state.get("ended") or (kept if kept == "diverged" and (self.folder / point.name).is_dir() else None)
        return Outcome(ended, _figure(state)) if ended in DONE else None

    def run(self, source: Source, jobs: int, progress: Callable[[str], None] = lambda line: None) -> None:
        """Run what `source` asks for, `jobs` at a time. Ctrl-C and SIGTERM are handed on: every run saves where it is,
        and the same sweep goes on from there.
        """
        running: dict[subprocess.Popen[bytes], Point] = {}
        tally = _Tally(source.total)
        waiting = f"waiting for another sweep in {self.folder}"
        with locked(self.folder, waiting), _handed_on(running):
            self.record = self._read()  # another sweep may have added to it meanwhile
            while True:
                while len(running) < jobs and (point := source.ask()) is not None:
                    done = self.outcome(point)
                    self._keep(point, done)
                    if done is None:
                        running[self._start(point, jobs)] = point
                        progress(f"{point.name}: begun")
                    else:
                        source.tell(point, done)
                        progress(f"{point.name}: {done.ended} before; {tally.passed()}")
                if not running:
                    return
                for process in [each for each in running if each.poll() is not None]:
                    point = running.pop(process)
                    outcome = self._ended(point, process.returncode)
                    self._keep(point, outcome)
                    source.tell(point, outcome)
                    progress(f"{point.name}: {outcome}; {tally.ran()}")
                time.sleep(_PAUSE)

    def _start(self, point: Point, jobs: int) -> "subprocess.Popen[bytes]":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = train_command(point, self.folder / point.name)
        threads = max(1, (os.cpu_count() or 1) // jobs)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ} if jobs > 1 else None
        with self._log(point).open("ab") as log:
            # In a session of its own, or Ctrl-C would reach it twice: from the terminal and from here.
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def _ended(self, point: Point, code: int) -> Outcome:
        state = _state(self.folder / point.name)
        if code == 0 and state.get("ended") in DONE:
            return Outcome(state["ended"], _figure(state))
        if code == DIVERGED and (self.folder / point.name / "metrics.jsonl").is_file():
            return Outcome("diverged", _figure(state))
        lines = self._log(point).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Outcome("failed", None, lines[-1][:300] if lines else f"exit code {code}")

    def _keep(self, point: Point, outcome: Outcome | None) -> None:
        entry = {"preset": point.preset, "settings": list(point.overrides), "varied": dict(point.varied)}
        entry |= (
            {} if outcome is None else {"ended": outcome.ended, "bits_per_byte": outcome.figure, "why": outcome.why}
        )
        if self.record.get(point.name) != entry:
            self.record[point.name] = entry
            write_text(self._path, json.dumps({"runs": self.record}, indent=1, ensure_ascii=False) + "\n")

    def _log(self, point: Point) -> Path:
        return self.folder / f"{point.name}.log"


def train_command(point: Point, folder: Path) -> list[str]:
    """What trains a point, in a process of its own."""
    return [sys.executable, "-P", "-m", "storylm", "train", point.preset, *point.overrides, "--out", str(folder)]


class _Tally:
    """How many runs are done, and how long the others will take: each as long as those did that were run here."""

    def __init__(self, total: int):
        self._total, self._done, self._run = total, 0, 0
        self._began = time.monotonic()

    def passed(self) -> str:
        self._done += 1
        return f"{self._done} of {self._total} done"

    def ran(self) -> str:
        self._run += 1
        seconds = (time.monotonic() - self._began) / self._run * (self._total - self._done - 1)
        about = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return self.passed() + (f", about {about} left" if self._done < self._total else "")


class Listed:
    """Points of a list, each once. All are looked at first, so that a mistake in one shows before any runs.

    Raises `UsageError` where two have one name, or settings cannot be.
    """

    def __init__(self, points: list[Point]):
        names = [point.name for point in points]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"two runs of the sweep are {twice[0]!r}: name each value once")
        for point in points:
            _ = point.config  # raises
        self._left, self.total = iter(points), len(points)

    def ask(self) -> Point | None:
        return next(self._left, None)

    def tell(self, point: Point, outcome: Outcome) -> None:
        pass


@contextmanager
def _handed_on(running: dict[subprocess.Popen[bytes], Point]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and mistakes end every process that runs; once all have saved, the sweep ends as it was to."""

    def terminate(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except BaseException as stop:
        asked = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        while alive := [process for process in running if process.poll() is None]:
            for process in alive:
                process.send_signal(asked)
            try:
                for process in alive:
                    process.wait()
            except KeyboardInterrupt:  # once more: they are asked once more, and leave at once
                continue
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _state(run: Path) -> dict[str, Any]:
    """Where the newest checkpoint of a run says that it stands; nothing where there is none."""
    try:
        text = (run / "checkpoints" / "last" / "trainer_state.json").read_text(encoding="utf-8")
        return json.loads(text)["values"]["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _figure(state: dict[str, Any]) -> float | None:
    from storylm.evaluation.likelihood import Likelihood

    return Likelihood(**state["best_pass"]).bits_per_byte if state.get("best_pass") else None

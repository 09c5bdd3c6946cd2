"""Runs of a sweep, each in a process of its own, some at a time. What is finished is never run again."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storylm.config.errors import UsageError
from storylm.data.cache import LOCK, locked
from storylm.training.run_folder import differences, saved_config, with_absolute_paths
from storylm.training.sweep import record
from storylm.training.sweep.grid import Point
from storylm.training.sweep.outcome import DONE, Outcome, figure_of, state_of, told
from storylm.training.sweep.places import Places
from storylm.training.sweep.processes import Processes
from storylm.training.sweep.source import Source

DIVERGED = 1  # exit code of `storylm train`


class Sweep:
    """Runs in `folder`, one folder with a log beside it for each point, and `sweep.json` of how they ended.

    `say` is told what is amiss there. Raises `UsageError` where the folder is none, or holds other things.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)):
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: choose another --out")
        others = {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()
        if others and record.RECORD not in others:
            raise UsageError(f"{folder} is not empty and holds no sweep: choose another --out")
        self.record = record.read(folder, say)

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
        state = state_of(self.folder / point.name)
        kept = self.record.get(point.name, {}).get("ended")
        ended = state.get("ended") or (kept if kept == "diverged" and (self.folder / point.name).is_dir() else None)
        return Outcome(ended, figure_of(state)) if ended in DONE else None

    def run(self, source: Source, places: Places, progress: Callable[[str], None] = lambda line: None) -> None:
        """Run what `source` asks for. Whatever ends the sweep is handed on: every run saves where it is, and the same
        sweep goes on from there.
        """
        tally, processes = _Tally(source.total), Processes(places)
        with locked(self.folder, f"waiting for another sweep in {self.folder}"), processes.handed_on():
            self.record = record.read(self.folder, lambda line: None)  # another sweep may have added to it meanwhile
            while True:
                while not processes.full and (point := source.ask()) is not None:
                    done, before = self._impossible(point), ""
                    if done is None:
                        self._wait_for(point)
                        done, before = self.outcome(point), " before"
                    if done is None:
                        self._keep(point, {"started": processes.start(point, *self._paths(point))}, anew=True)
                        progress(f"{point.name}: begun, see {self._paths(point)[1]}")
                    else:
                        self._keep(point, told(done, state_of(self.folder / point.name)))
                        source.tell(point, done)
                        progress(f"{point.name}: {done.ended if before else done}{before}; {tally.passed()}")
                if not processes:
                    return
                for one in processes.ended():
                    outcome = self._ended(one.point, one.process.returncode)
                    found = told(outcome, state_of(self.folder / one.point.name))
                    self._keep(one.point, {**found, "exit_code": one.process.returncode})
                    source.tell(one.point, outcome)
                    progress(f"{one.point.name}: {outcome}; {tally.ran()}")

    def _impossible(self, point: Point) -> Outcome | None:
        """The failure of a point that was drawn though its settings do not fit each other."""
        try:
            _ = point.config  # raises
        except UsageError as error:
            return Outcome("failed", None, str(error))
        return None

    def _wait_for(self, point: Point) -> None:
        """Until a process that a sweep left behind, as one that was killed does, is through with the run."""
        folder = self.folder / point.name
        if (folder / LOCK).exists():
            with locked(folder, f"waiting for the process that trains in {folder}"):
                pass

    def _ended(self, point: Point, code: int) -> Outcome:
        folder, log = self._paths(point)
        state = state_of(folder)
        if code == 0 and state.get("ended") in DONE:
            return Outcome(state["ended"], figure_of(state))
        if code == DIVERGED and (folder / "metrics.jsonl").is_file():
            return Outcome("diverged", figure_of(state))
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Outcome("failed", None, lines[-1][:300] if lines else f"exit code {code}")

    def _keep(self, point: Point, found: dict[str, Any], anew: bool = False) -> None:
        """Write down what is found of a point beside what is known of it; `anew` forgets that."""
        about = {"preset": point.preset, "settings": list(point.overrides), "varied": dict(point.varied)}
        entry = {**({} if anew else self.record.get(point.name, {})), **about, **found}
        if self.record.get(point.name) != entry:
            self.record[point.name] = entry
            record.write(self.folder, self.record)

    def _paths(self, point: Point) -> tuple[Path, Path]:
        """Its folder and its log."""
        return self.folder / point.name, self.folder / f"{point.name}.log"


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

"""Turns in rounds, A B C A B C, each in a fresh process, and what they come to."""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from .said import last_words
from .turn import Turn

BENCHMARKS = Path(__file__).parents[1]
Measured = dict[str, Any]
PATIENCE = 3600.0  # seconds until a process counts as hung


def run_child(turn: Turn, threads: int | None = None) -> Measured:
    """Take the turn in a process of its own; {"failed": why} where it does not come through."""
    folder = Path(tempfile.mkdtemp(prefix=f"{turn.contender}-", dir=turn.folder))
    turn_file = folder / "turn.json"
    replace(turn, folder=str(folder)).write(turn_file)
    # A compiler's cache for each contender: its first round starts without, as its users' first run does.
    cache = Path(turn.folder) / f"compiled-{turn.contender}"
    return run_module(
        "peers.child", [str(turn_file)], folder / "result.json", threads, TORCHINDUCTOR_CACHE_DIR=str(cache)
    )


def run_module(
    name: str,
    arguments: Sequence[str],
    result: Path,
    threads: int | None = None,
    patience: float = PATIENCE,
    **variables: str,
) -> Measured:
    """What the module wrote to the file `result`, its last argument, in a process of its own; or {"failed": why}."""
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS), **variables}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", name, *arguments, str(result)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, env=environment, timeout=patience, **silent)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {patience / 60:.0f} minutes"}
    if done.returncode == 0:
        return json.loads(result.read_text(encoding="utf-8"))
    return {"failed": "killed, perhaps for memory" if done.returncode == -9 else last_words(done.stderr)[:300]}


def run_rounds(
    turns: Sequence[Turn],
    rounds: int,
    threads: int | None = None,
    tell: Callable[[int, Turn, Measured], None] = lambda *_: None,
) -> dict[str, list[Measured]]:
    """Every turn, `rounds` times in turn; the measurements by contender. Who failed once is left out after that."""
    measured: dict[str, list[Measured]] = {turn.contender: [] for turn in turns}
    for number in range(rounds):
        for turn in turns:
            taken = measured[turn.contender]
            if taken and "failed" in taken[-1]:
                continue
            taken.append(run_child(turn, threads))
            tell(number, turn, taken[-1])
    return measured


def tokens_per_second(one: Measured, tokens_per_lap: int) -> float:
    """By the median lap: a lap in which the machine did something else does not count."""
    return tokens_per_lap / median(one["lap_seconds"])


def spread(values: Sequence[float], digits: int) -> dict[str, float]:
    """Median, smallest and largest, to so many significant digits."""
    return {name: _significant(of(values), digits) for name, of in (("median", median), ("min", min), ("max", max))}


def summary(
    measured: dict[str, list[Measured]], tokens_per_lap: int, lap_steps: int, baseline: str, roof: float
) -> list[Measured]:
    """A row for each contender. Ratios are to `baseline` in the same round; `roof`: tokens/s at the matmul ceiling."""
    speeds = {
        name: [] if "failed" in taken[-1] else [tokens_per_second(one, tokens_per_lap) for one in taken]
        for name, taken in measured.items()
    }
    rows = []
    for name, taken in measured.items():
        if not speeds[name]:
            rows.append({"contender": name, "failed": taken[-1]["failed"]})
            continue
        step = tokens_per_lap / lap_steps / median(speeds[name])
        start = [one["start_seconds"] for one in taken]
        row = {
            "contender": name,
            "version": taken[0].get("version"),
            "tokens_per_second": spread(speeds[name], 4),
            "share_of_ceiling": _significant(median(speeds[name]) / roof, 3),
            "step_seconds": _significant(step, 4),
            "start_seconds": {
                kind: round(median(of), 1) for kind, of in (("cold", start[:1]), ("warm", start[1:])) if of
            },
            "peak_bytes": max(one.get("peak_device_bytes", one["peak_bytes"]) for one in taken),
            "first_loss": round(taken[0]["first_loss"], 3),
            "last_loss": round(taken[0]["last_loss"], 3),
        }
        if speeds.get(baseline):
            ratios = [one / base for one, base in zip(speeds[name], speeds[baseline], strict=True)]
            row["times_baseline"] = spread(ratios, 3)
        rows.append(row)
    _add_break_even(rows, baseline)
    return rows


def _add_break_even(rows: list[Measured], baseline: str) -> None:
    """After how many steps the whole run is ahead of the baseline's, with a cold start and with a warm one."""
    base = next((row for row in rows if row["contender"] == baseline and "failed" not in row), None)
    for row in rows:
        if base is None or row is base or "failed" in row:
            continue
        gain = base["step_seconds"] - row["step_seconds"]
        row["break_even_steps"] = {
            kind: break_even(seconds - base["start_seconds"][kind], gain)
            for kind, seconds in row["start_seconds"].items()
        }


def break_even(later: float, gain: float) -> int | None:
    """Steps until a start that is `later` (s) is made up for by a `gain` (s) in each step; None: never, for good.

    >>> break_even(30.0, 0.5), break_even(-1.0, 0.5), break_even(3.0, 0.0), break_even(-1.0, -0.5)
    (60, 0, None, None)
    """
    return max(0, math.ceil(later / gain)) if gain > 0 else None


def _significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")

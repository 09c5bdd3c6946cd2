"""The process of one teller: `python -m peers.telling TURN.json RESULT.json`, with benchmarks/ on the path."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from .child import peak_bytes
from .tellers import TELLERS


def measure(turn: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each lap, a lap being `new_tokens` for each of the prompts, and how many ids agree with `expected`."""
    kind, _, precision = turn["contender"].rpartition("-")
    prompts, count = turn["prompts"], turn["new_tokens"]
    began = time.perf_counter()
    capacity = len(prompts[0]) + count
    tell = TELLERS[kind](Path(turn["folder"]), precision, len(prompts), capacity, turn["device"], turn["threads"])
    opened = time.perf_counter() - began
    tell(prompts, 8)
    laps: list[float] = []
    told: list[list[int]] = []
    while len(laps) < turn["laps"] or sum(laps) < turn["seconds"]:
        began = time.perf_counter()
        told = tell(prompts, count)
        laps.append(getattr(tell, "seconds", time.perf_counter() - began))
    return {"lap_seconds": laps, "start_seconds": opened, "peak_bytes": peak_bytes(), "told": told}


if __name__ == "__main__":
    turn_file, result_file = map(Path, sys.argv[1:])
    result_file.write_text(json.dumps(measure(json.loads(turn_file.read_text(encoding="utf-8")))), encoding="utf-8")

"""The process of one turn: `python -m peers.child TURN.json RESULT.json`, with benchmarks/ on the path."""

import json
import math
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .turn import Finished, Laps, Turn

STARTED = time.monotonic()  # before torch is imported, which a user waits for, too
# Each runs until `Laps.lap` raises `Finished`; it calls `ready`, with its version, before it builds its model.
KINDS = {"storylm": "ours", "plain": "plain", "nanogpt": "plain", "trainer": "hf_trainer"}
Ready = Callable[..., None]


def peak_bytes() -> int:
    """The most memory this process ever had resident.

    Not ru_maxrss where it can be helped: Linux hands on the parent's to a child that it starts.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def take(turn: Turn) -> dict[str, Any]:
    """Train until the laps are done; what was measured, as JSON."""
    laps, about = Laps(turn, STARTED), {}

    def ready(**values: Any) -> None:
        about.update(values, peak_bytes_before=peak_bytes())

    run = import_module(f".{KINDS[turn.kind]}", __package__).run
    try:
        run(turn, laps, ready)
    except Finished:
        pass
    else:
        raise RuntimeError(f"{turn.contender} ended before its {turn.laps} laps were done")
    if not all(map(math.isfinite, laps.losses)):
        raise RuntimeError(f"{turn.contender}: the loss is no number: {laps.losses}")
    memory = {"peak_bytes": peak_bytes()}
    if turn.device != "cpu":
        import torch

        memory["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return {
        **about,
        **memory,
        "start_seconds": laps.start_seconds,
        "lap_seconds": laps.seconds,
        "first_loss": laps.losses[0],
        "last_loss": laps.losses[-1],
    }


if __name__ == "__main__":
    turn_file, result_file = map(Path, sys.argv[1:])
    result_file.write_text(json.dumps(take(Turn.read(turn_file))), encoding="utf-8")

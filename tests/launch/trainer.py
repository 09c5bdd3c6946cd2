"""A stand-in for `storylm train`: counts steps, saves the count when asked to stop, goes on with it when run again.

    trainer.py PRESET [KEY=VALUE ...] --out FOLDER --steps N [--data ANY] [--save-seconds S]

Rank 0 writes a line of FOLDER/log for each step and each thing that happens. Exit codes are those of storylm.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("preset")
parser.add_argument("settings", nargs="*")
parser.add_argument("--data")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--save-seconds", type=float, default=0.0)
options = parser.parse_intermixed_args()

asked: list[int] = []
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
options.out.mkdir(parents=True, exist_ok=True)
saved, rank = options.out / "step", os.environ.get("RANK", "0")
step = int(saved.read_text()) if saved.exists() else 0


def note(line: str) -> None:
    if rank == "0":
        with (options.out / "log").open("a") as log:
            log.write(f"{line}\n")


def save() -> None:
    end = time.monotonic() + options.save_seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    if rank == "0":
        saved.write_text(str(step))


while step < options.steps and not asked:
    step += 1
    note(f"step {step}")
    time.sleep(0.01)
if asked:
    save()
    note(f"saved after {len(asked)} x {signal.Signals(asked[0]).name}")
    sys.exit(128 + asked[0])
save()
note("finished")

"""What stands in for `storylm train` where a sweep is tested: a process that ends as its learning rate says.

A file beside the runs has a line for each process: the run, and when it began and ended. 0.5 is interrupted unless it
is gone on with, 8 diverges, 9 fails; others finish, at 1 bit per byte and one for every order of magnitude from 0.01.
"""

import json
import math
import signal
import sys
import time
from pathlib import Path

BYTES = 1000
SPENT = {"step": 7, "tokens": 700, "seconds": 1.5}


def write_state(folder: Path, ended: str | None, rate: float) -> None:
    nats = (1 + abs(math.log10(rate) + 2)) * math.log(2) * BYTES
    best = {"nats": nats, "tokens": 10, "bytes": BYTES, "stories": 3, "truncated_stories": 0}
    best |= {"special_nats": 0.0, "special_tokens": 0, "context": 8, "stride": None}
    state = folder / "checkpoints" / "last" / "trainer_state.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"values": {"state": {"ended": ended, "best_pass": best, **SPENT}}}))


def main() -> int:
    folder = Path(sys.argv[sys.argv.index("--out") + 1])
    rate = float(next(word.partition("=")[2] for word in sys.argv if word.startswith("optim.lr=")))
    goes_on, stopped = folder.exists(), []
    folder.mkdir(exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    (folder / "begun").touch()
    began = time.time()
    wait = 30.0 if rate == 0.5 and not goes_on else 0.3
    while time.time() < began + wait and not stopped:
        time.sleep(0.01)
    with (folder.parent / "calls.txt").open("a") as calls:
        calls.write(f"{folder.name} {began} {time.time()}\n")
    if stopped:
        write_state(folder, None, rate)
        return 128 + stopped[0]
    if rate == 9:
        print("storylm: the machine has no such thing", file=sys.stderr)
        return 4
    if rate == 8:
        (folder / "metrics.jsonl").touch()
        return 1
    write_state(folder, "finished", rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())

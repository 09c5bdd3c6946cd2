"""Weak scaling: twice the processes, twice the rows a step. How much of twice the speed is left?

    python benchmarks/scaling.py                                story-5m, 1 and 2 processes of one thread each
    python benchmarks/scaling.py xs-3m --processes 4 --rows 8   another shape, up to 4 processes
    python benchmarks/scaling.py --device cuda                  a GPU for each process

Contenders: one process; N by themselves at the same time, which share nothing but the machine (its memory, its caches,
its clock); N as one run with DDP; N as one run with FSDP. All are `train_run` with built-in stories, every process a
forward pass of as many rows a step. They come in rounds, A B C D A B C D, each turn in fresh processes; the first
steps are warm-up. A turn's speed is that of its median step. Efficiency is the speed of N processes over N times that
of one, in the same round; `of_apart` over that of N by themselves: what talking costs.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from peers.machine import commit, cores, machine, versions
from peers.rounds import PATIENCE, spread
from rich.console import Console
from rich.table import Table

from storylm.config.files import write_text
from storylm.config.load import apply_overrides, preset
from storylm.config.schema import RunConfig
from storylm.training.observers import Observer, StepRecord

ROOT = Path(__file__).parents[1]
WARMUP = 3  # steps


def settings(options: argparse.Namespace, processes: int, parallel: str) -> RunConfig:
    """A run of `processes` that does nothing but train, each on `options.rows` rows a step."""
    return apply_overrides(
        preset(options.preset),
        [
            "data.source=grammar?stories=5000&validation=10",
            "tokenizer=bpe",
            "data.layout=packed",
            f"train.batch_size={options.rows}",
            f"train.accumulation={processes}",
            f"train.parallel={parallel}",
            f"train.device={options.device}",
            "train.minutes=null",
            "train.epochs=null",
            f"train.steps={WARMUP + options.steps}",
            "train.compile=off",
            "train.log_every=1",
            "train.eval_every=0",
            "train.sample_every=0",
            "train.save_every=0",
            "train.save_minutes=null",
            "train.sample_prompts=[]",
        ],
    )


class StepTimes(Observer):
    """Looks at the clock after every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def after_step(self, record: StepRecord) -> None:
        self.seen.append((time.monotonic(), record.tokens))

    def tokens_per_second(self) -> float:
        """Of the median step after the warm-up."""
        timed = pairwise(self.seen[WARMUP - 1 :])
        return median((tokens - before) / (now - then) for (then, before), (now, tokens) in timed)


def child(config: RunConfig, folder: Path) -> None:
    """One process of a turn; the main one writes its speed to `folder`/speed.json."""
    from storylm.training.joining import joined
    from storylm.training.run import train_run

    times = StepTimes()
    train_run(config, folder / "run", observers=[times])
    if joined().is_main:
        (folder / "speed.json").write_text(json.dumps(times.tokens_per_second()))


def turn(contender: str, options: argparse.Namespace) -> float:
    """Tokens per second, of all processes together."""
    processes = 1 if contender == "one" else options.processes
    together = contender in ("ddp", "fsdp")
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(number) for number in range(1 if together else processes)]
        config = settings(options, processes if together else 1, contender if together else "auto")
        port = _free_port()
        started = []
        for number in range(processes):
            folder = folders[0 if together else number]
            folder.mkdir(exist_ok=True)
            place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": processes, "MASTER_PORT": port}
            world = {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), **(world if together else {})}
            if options.device == "cuda" and not together:
                environment["CUDA_VISIBLE_DEVICES"] = str(number)
            command = [sys.executable, __file__, "--child", config.model_dump_json(), str(folder)]
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
        try:
            errors = [process.communicate(timeout=PATIENCE)[1].decode(errors="replace") for process in started]
        finally:
            for process in started:
                process.kill()
        if any(process.returncode for process in started):
            sys.exit("\n".join(errors))
        return sum(json.loads((folder / "speed.json").read_text()) for folder in folders)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def measure(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """A row for each contender."""
    speeds: dict[str, list[float]] = {name: [] for name in ("one", "apart", "ddp", "fsdp")}
    for number in range(options.rounds):
        for name, taken in speeds.items():
            taken.append(turn(name, options))
            console.print(f"round {number + 1}, {name}: {taken[-1]:,.0f} tokens/s")
    rows = []
    for name, taken in speeds.items():
        processes = 1 if name == "one" else options.processes
        ratios = {"efficiency": [one * processes for one in speeds["one"]]}
        if name in ("ddp", "fsdp"):
            ratios["of_apart"] = speeds["apart"]
        rows.append(
            {
                "contender": name,
                "processes": processes,
                "tokens_per_second": spread(taken, 4),
                **{
                    key: spread([speed / base for speed, base in zip(taken, bases, strict=True)], 3)
                    for key, bases in ratios.items()
                },
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    made = Table("contender", "processes", "tokens/s", "efficiency", "of apart")
    for row in rows:
        ratios = [f"{row[key]['median']:.1%}" if key in row else "" for key in ("efficiency", "of_apart")]
        made.add_row(row["contender"], str(row["processes"]), f"{row['tokens_per_second']['median']:,.0f}", *ratios)
    return made


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(RunConfig.model_validate_json(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("preset", nargs="?", default="story-5m")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--processes", type=int, default=2)
    add("--threads", type=int, default=1, help="CPU threads of a process")
    add("--rows", type=int, default=16, help="of a process in a step")
    add("--steps", type=int, default=20, help="timed steps of a turn")
    add("--rounds", type=int, default=5)
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "scaling.json")
    options = parser.parse_args()
    console = Console(highlight=False)
    rows = measure(options, console)
    console.print(table(rows))
    result = {
        "what": "weak scaling: tokens/s of one process, of several apart, and of several as one run",
        "preset": options.preset,
        "rows_per_process": options.rows,
        "threads_per_process": options.threads,
        "cores": cores(),
        "rounds": options.rounds,
        "machine": machine(options.device),
        "versions": versions(),
        "commit": commit(),
        "contenders": rows,
    }
    write_text(options.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

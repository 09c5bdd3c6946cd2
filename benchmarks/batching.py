"""How fast batches come from a file of tokens, side by side: storylm's and nanoGPT's `get_batch`.

    python benchmarks/batching.py [--batch 32] [--repeats 5] [--seconds 0.5]

The same tokens, mapped into memory and read before; one process; in each repeat every contender draws batches for some
time, in turn. Counted are tokens that are learnt from, so padding is not. storylm's batches visit every token once in
an epoch and are a function of the step; nanoGPT's are rows from anywhere.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.data import configured, copy_tokens, sources
from peers.machine import commit, machine, versions
from peers.plain import get_batch
from peers.rounds import BENCHMARKS, spread
from rich.console import Console
from rich.table import Table

from storylm.config.files import write_text
from storylm.data.batches import IGNORED, PackedBatches, PaddedBatches
from storylm.data.prepare import prepare_cached
from storylm.data.shards import TokenSet

CONTEXTS = (64, 128, 256, 512, 1024)
PEER = "get_batch"
OURS = {
    "packed": (PackedBatches, False),
    "packed, stories apart": (PackedBatches, True),
    "padded": (PaddedBatches, False),
}
Draw = Callable[[int], Any]  # the batch of a step


def contenders(tokens: TokenSet, file: Path, batch: int, context: int) -> dict[str, Draw]:
    """How each draws the batch of a step, a pair or a `Batch` of [batch, context]."""
    dtype = tokens.shards[0].header.dtype
    draws: dict[str, Draw] = {PEER: lambda step: get_batch(str(file), dtype, batch, context, "cpu")}
    for name, (kind, apart) in OURS.items():
        draws[name] = kind(tokens, context=context, batch_size=batch, separate_stories=apart).batch
    return draws


def learnt(batch: Any) -> int:
    """How many targets a batch has."""
    targets_BT = batch[1] if isinstance(batch, tuple) else batch.targets_BT
    return int((targets_BT != IGNORED).sum())


def speed(draw: Draw, seconds: float, first: int) -> float:
    """Tokens a second over at least so many seconds, from step `first` on."""
    per_batch = sum(learnt(draw(step)) for step in range(first, first + 8)) / 8  # counted apart: looking takes time
    step, began = first + 8, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or step == first + 8:
        draw(step)
        step += 1
    return per_batch * (step - first - 8) / elapsed


def measure(tokens: TokenSet, file: Path, batch: int, context: int, repeats: int, seconds: float) -> list[dict]:
    """A row for each contender: tokens a second over the repeats, and as a multiple of `PEER`'s in the same one."""
    draws = contenders(tokens, file, batch, context)
    speeds: dict[str, list[float]] = {name: [] for name in draws}
    for repeat in range(repeats):
        for name, draw in draws.items():
            speeds[name].append(speed(draw, seconds, first=repeat * 100_000))
    return [
        {
            "context": context,
            "contender": name,
            "tokens_per_second": spread(of, 4),
            "times_get_batch": spread([one / peer for one, peer in zip(of, speeds[PEER], strict=True)], 3),
        }
        for name, of in speeds.items()
    ]


def main(given: list[str] | None = None) -> int:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="rows")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, help="tokens a row")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--data", help="stories (default: the real ones of STORYLM_SHARED, else built-in ones)")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "batching.json")
    options = parser.parse_args(given)

    with tempfile.TemporaryDirectory(prefix="storylm-bench-") as folder:
        os.environ["STORYLM_CACHE"] = str(Path(folder) / "cache")
        tokens = prepare_cached(configured("xs-3m", sources("xs-3m", options.data))).split("train")
        file = Path(folder) / "train.bin"
        copy_tokens(tokens, file)
        rows = [
            row
            for context in options.contexts
            for row in measure(tokens, file, options.batch, context, options.repeats, options.seconds)
        ]
    about = {
        "what": "batches from a memory-mapped file, tokens per second that are learnt from",
        "batch": options.batch,
        "tokens": tokens.tokens,
        "stories": tokens.stories,
        "repeats": options.repeats,
        "seconds": options.seconds,
        "commit": commit(),
        "machine": machine("cpu"),
        "versions": versions(),
    }
    write_text(options.output, json.dumps({**about, "results": rows}, indent=2) + "\n")

    table = Table("context", "batches", box=None, title=f"batches of {options.batch} rows")
    for column in ("million tokens/s", "min to max", "x get_batch"):
        table.add_column(column, justify="right")
    for row in rows:
        low, mid, high = (row["tokens_per_second"][key] / 1e6 for key in ("min", "median", "max"))
        ratio = f"{row['times_get_batch']['median']:.2f}"
        table.add_row(str(row["context"]), row["contender"], f"{mid:.1f}", f"{low:.1f} to {high:.1f}", ratio)
    Console(highlight=False, width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How much memory training takes, side by side, against the batch and against the vocabulary.

    python benchmarks/memory.py [--device cuda] [--plot docs/images/memory.png]

Every point is a process of its own that makes two updates. On a CPU its figure is the most memory the process ever had
resident less what it had before it built the model (Python, torch, the tokens); on a GPU what torch had allocated.
storylm and the plain loop (`peers/plain.py`) run as their users start them. Apart from that `mistral-40m` is trained as
its authors did: context 4,096, one story a row, batch 6 by accumulation, every row as long as it can be.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from peers.data import bench_overrides, configured, sources, write_tokens
from peers.machine import commit, cores, machine, versions
from peers.rounds import BENCHMARKS, run_child
from peers.turn import Turn
from rich.console import Console
from rich.table import Table
from train import BASELINE

from storylm.config.files import write_text
from storylm.data.grammar import stories as built_in_stories

PRESET, CONTEXT = "gpt2-33m", 512
BATCHES, VOCABULARIES = (2, 4, 8, 16), (4096, 10_000, 32_000, 50_257)
MISTRAL = {"as published": (1, 6)}  # rows, and how many times before an update


def peak(turn: Turn, threads: int) -> dict[str, Any]:
    """What the turn's process needed, in bytes, or why it failed."""
    one = run_child(turn, threads)
    if "failed" in one:
        return {"failed": one["failed"]}
    device = one.get("peak_device_bytes")
    return {
        "bytes": one["peak_bytes"] - one["peak_bytes_before"] if device is None else device,
        "process_bytes": one["peak_bytes"],
    }


def blank(device: str, folder: Path) -> Turn:
    """A turn of two updates."""
    return Turn("storylm", PRESET, (), "", str(folder), device=device, warmup_laps=1, laps=1, seconds=0.0)


def curve(options: argparse.Namespace, folder: Path, console: Console) -> list[dict[str, Any]]:
    """Points along the batch, with the full vocabulary, and along the vocabulary, with the middle batch."""
    middle = options.batches[len(options.batches) // 2]
    along_batch = [(batch, options.vocabularies[-1]) for batch in options.batches]
    along_vocabulary = [(middle, vocabulary) for vocabulary in options.vocabularies]
    points = []
    for batch, vocabulary in dict.fromkeys(chain(along_batch, along_vocabulary)):
        overrides = [
            *bench_overrides(PRESET, batch, options.context, 0.0),
            "data.source=grammar?stories=2000&validation=10",
            "tokenizer=bytes",  # which ids they are makes no difference to memory
            f"model.vocab_size={vocabulary}",
            *options.set,
        ]
        tokens = folder / f"{vocabulary}.bin"
        write_tokens(configured(PRESET, overrides), tokens)
        turn = replace(blank(options.device, folder), overrides=tuple(overrides), tokens=str(tokens))
        for contender in ("storylm", BASELINE[options.device]):
            point = {"batch": batch, "vocab_size": vocabulary, "contender": contender}
            point |= peak(replace(turn, contender=contender), options.threads)
            console.print(f"batch {batch}, vocabulary {vocabulary:,}, {contender}: {shown(point)}")
            points.append(point)
    return points


def mistral(options: argparse.Namespace, folder: Path, console: Console) -> list[dict[str, Any]]:
    """mistral-40m on padded rows of 4,096 tokens, 24,576 an update, in six pieces."""
    stories = built_in_stories(0)
    text = folder / "long.txt"
    # Built-in stories end to end, about 20,000 tokens each: four full rows and a rest.
    long = ("\n\n".join(next(stories) for _ in range(120)) for _ in range(20))
    text.write_text("\n<|endoftext|>\n".join(long), encoding="utf-8")
    points = []
    for name, (rows, accumulation) in MISTRAL.items():
        overrides = (
            *sources("mistral-40m", str(text)),
            f"train.batch_size={rows}",
            f"train.accumulation={accumulation}",
            "data.cleaning.near_duplicates=false",
            "data.cleaning.fragments=false",
        )
        turn = replace(blank(options.device, folder), preset="mistral-40m", overrides=overrides)
        point = {"name": name, "batch": rows, "accumulation": accumulation, "context": 4096}
        point |= peak(turn, options.threads)
        console.print(f"mistral-40m, {rows} x {accumulation} rows of 4,096: {shown(point)}")
        points.append(point)
    return points


def shown(point: dict[str, Any]) -> str:
    if "failed" in point:
        return f"failed: {point['failed']}"
    return f"{point['bytes'] / 2**30:.2f} GB ({point['process_bytes'] / 2**30:.2f} GB the whole process)"


def draw(results: dict[str, Any], path: Path) -> None:
    """Two panels: memory against the batch, and against the vocabulary."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    points = [point for point in results["points"] if "bytes" in point]
    for axes, along, fixed in zip(figure.subplots(1, 2), ("batch", "vocab_size"), ("vocab_size", "batch"), strict=True):
        kept = results["fixed"][fixed]
        for contender, colour in (("storylm", "tab:blue"), (results["baseline"], "tab:gray")):
            line = sorted(
                (point[along], point["bytes"] / 2**30)
                for point in points
                if point["contender"] == contender and point[fixed] == kept
            )
            name = "storylm" if contender == "storylm" else "plain loop"
            axes.plot(*zip(*line, strict=True), "o-", color=colour, label=name)
        axes.set_xlabel({"batch": f"rows of {results['context']} tokens", "vocab_size": "vocabulary"}[along])
        axes.set_title({"batch": f"batch {kept}", "vocab_size": f"vocabulary {kept:,}"}[fixed], fontsize=10)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("GB")
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(given: list[str] | None = None) -> int:
    """Measure, write, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="rows a step")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens a row")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"a setting of {PRESET}")
    parser.add_argument("--without-mistral", action="store_true", help="only the curves")
    parser.add_argument("--plot", type=Path, help="a PNG file for the curves (needs storylm[report])")
    parser.add_argument("--output", type=Path, help="JSON (default: benchmarks/results/memory-cpu.json or -gpu.json)")
    options = parser.parse_args(given)
    console = Console(stderr=True, highlight=False)
    name = f"memory-{'cpu' if options.device == 'cpu' else 'gpu'}.json"
    with tempfile.TemporaryDirectory(prefix="storylm-bench-") as folder:
        os.environ["STORYLM_CACHE"] = str(Path(folder) / "cache")
        results = {
            "what": "peak memory of training, bytes",
            "model": PRESET,
            "context": options.context,
            "baseline": BASELINE[options.device],
            "fixed": {"batch": options.batches[len(options.batches) // 2], "vocab_size": options.vocabularies[-1]},
            "commit": commit(),
            "machine": machine(options.device),
            "versions": versions(),
            "points": curve(options, Path(folder), console),
            "mistral-40m": [] if options.without_mistral else mistral(options, Path(folder), console),
        }
    write_text(options.output or BENCHMARKS / "results" / name, json.dumps(results, indent=2) + "\n")
    if options.plot:
        draw(results, options.plot)

    table = Table("batch", "vocabulary", box=None, title=f"{PRESET}, rows of {options.context} tokens")
    for column in ("storylm", "plain loop"):
        table.add_column(column, justify="right")
    for ours, theirs in zip(results["points"][::2], results["points"][1::2], strict=True):
        table.add_row(str(ours["batch"]), f"{ours['vocab_size']:,}", shown(ours), shown(theirs))
    Console(highlight=False, width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

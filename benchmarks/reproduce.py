"""What an epoch of TinyStories takes with every preset on this machine's processor.

    python benchmarks/reproduce.py                      every published preset, one to ten minutes each
    python benchmarks/reproduce.py gpt2-33m nano-22m    some; the others' figures stay in the file
    python benchmarks/reproduce.py llama2c-110m --set train.batch_size=8 --set train.accumulation=16    in less memory

`storylm plan` rehearses each preset as published (its batch, dropout and optimizer) on random tokens of the right
shape; docs/reproduce.md is made of what it says. Where there is a GPU it is left alone. Figures of another processor
are not to be mixed: there, name another --output (benchmarks/results/reproduce-*.json has a column of its own).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.data import SHARED
from peers.kept import keep, read
from peers.machine import commit, machine, other_machine, versions
from peers.rounds import BENCHMARKS
from peers.said import last_words
from rich.console import Console

from storylm.config.load import preset, preset_names

OURS = ("story", "minutes", "grammar")
KEPT = ("parameters", "flops_per_token", "tokens_per_second", "share_of_peak", "memory_bytes", "precision", "compiled")


def published() -> list[str]:
    """The presets of other people's models."""
    return [name for name in preset_names() if name.split("-")[0] not in OURS]


def planned(name: str, changes: list[str]) -> dict[str, Any]:
    """What `storylm plan` says of a preset with `changes`, in a process of its own."""
    tokenizer = SHARED / "reference" / preset(name).tokenizer
    command = [sys.executable, "-m", "storylm", "plan", name, "--json", "train.compile=on", "train.device=cpu"]
    command += [*changes, *([f"tokenizer={tokenizer}"] if tokenizer.is_dir() else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"failed": last_words(done.stderr)}
    plan = json.loads(done.stdout)
    measured = {key: plan[key] for key in KEPT} | ({"changes": changes} if changes else {})
    return measured | {"commit": commit(), "machine": machine("cpu"), "versions": versions()}


def main(given: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET", default=published())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, told in the table")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "reproduce.json")
    options, console = parser.parse_args(given), Console(stderr=True, highlight=False)
    if unknown := sorted(set(options.presets) - set(published())):
        parser.error(f"{unknown[0]!r} is no published preset: there are {', '.join(published())}")
    results = read(options.output, "presets")
    if other_machine(results["presets"].values()):
        console.print(f"{options.output} has results of another machine: name another --output")
        return 2
    for name in options.presets:
        row = planned(name, options.set)
        results = keep(options.output, "presets", name, row, what="tokens trained on per second")
        console.print(f"{name}: {row.get('failed') or format(row['tokens_per_second'], ',.0f') + ' tokens/s'}")
    return int(any("failed" in row for row in results["presets"].values()))


if __name__ == "__main__":
    sys.exit(main())

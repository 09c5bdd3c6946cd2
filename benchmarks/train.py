"""How fast storylm and its peers train the same model on the same tokens, side by side.

    python benchmarks/train.py                              xs-3m, gpt2-33m and nano-22m on this machine
    python benchmarks/train.py gpt2-33m --batch 16          one of them; the others' results stay in the file
    python benchmarks/train.py --device cuda                see benchmarks/gpu.md
    python benchmarks/train.py --nanogpt ~/nanoGPT          with the model of a checkout of nanoGPT, too
    python benchmarks/train.py --variants                   with ablations: compiled and not, bf16 and fp32

Contenders: storylm as its users start it (`train_run` with its observers: data, logging, optimizer, everything); the
plain PyTorch loop as nanoGPT's users start it (`peers/plain.py`); the Trainer of transformers (`peers/hf_trainer.py`).
All have the same tokens, shape, batch, optimizer (AdamW, its betas, decay and clipping) and threads, rows full of
tokens, dropout 0. Each turn is a fresh process; they come in rounds, A B C A B C; the first laps are warm-up and
reported as the start, in the first round with a cold compiler cache, then with a warm one. A turn's speed is that of
its median lap, a contender's the median of its turns; ratios are taken within a round.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers.data import bench_overrides, configured, sources, write_tokens
from peers.machine import commit, cores, machine, versions
from peers.rounds import BENCHMARKS, Measured, run_module, run_rounds, summary, tokens_per_second
from peers.turn import Turn
from rich.console import Console
from table import table

from storylm.config.files import write_text
from storylm.model.count import flops_per_token, parameters

# Rows a step and tokens a row. On a CPU 4,096 tokens with GPT-2's vocabulary, of which the plain loop needs several
# times 0.8 GB for logits; nano-22m as published. On a GPU full micro-batches.
SHAPES = {
    "xs-3m": {"cpu": (8, 512), "cuda": (64, 512)},
    "gpt2-33m": {"cpu": (8, 512), "cuda": (64, 512)},
    "nano-22m": {"cpu": (64, 128), "cuda": (512, 128)},
    "mistral-40m": {"cpu": (8, 512), "cuda": (64, 512)},
    "word-20m": {"cpu": (16, 256), "cuda": (256, 256)},
    "story-5m": {"cpu": (32, 256), "cuda": (256, 256)},
}
DEFAULT_SHAPES = {"cpu": ("xs-3m", "gpt2-33m", "nano-22m"), "cuda": ("xs-3m", "gpt2-33m", "nano-22m", "mistral-40m")}
BASELINE = {"cpu": "plain", "cuda": "plain-bf16-compile"}
CONTENDERS = {
    "cpu": ("storylm", "plain", "trainer", "trainer-bf16", "trainer-compile", "trainer-bf16-compile"),
    "cuda": ("storylm", "plain-bf16-compile", "trainer-bf16", "trainer-bf16-compile"),
}
LIGER = ("trainer-bf16-liger", "trainer-bf16-compile-liger")
VARIANTS = {
    "cpu": ("storylm-eager", "storylm-fp32", "storylm-fp32-eager", "plain-compile", "plain-bf16", "plain-bf16-compile"),
    "cuda": ("storylm-eager", "plain", "plain-compile", "plain-bf16", "trainer", "trainer-compile"),
}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("shapes", nargs="*", metavar="PRESET", help=f"of {', '.join(SHAPES)} (default: the published ones)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--batch", type=int, help="rows a step")
    add("--context", type=int, help="tokens a row")
    add("--dropout", type=float, default=0.0, help="of all contenders (default 0)")
    add("--rounds", type=int, default=3)
    add("--steps", type=int, default=3, help="timed laps of a turn, at least")
    add("--seconds", type=float, default=5.0, help="timed seconds of a turn, at least")
    add("--warmup", type=int, default=2, help="laps before them (a lap: one step on a CPU, ten on a GPU)")
    add("--threads", type=int, default=cores())
    add("--data", help="stories (default: the real ones of STORYLM_SHARED, else built-in ones)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the preset, for all contenders")
    add("--only", help="contenders, comma-separated, instead of the usual ones")
    add("--variants", action="store_true", help="ablations, too")
    add("--nanogpt", type=Path, metavar="DIR", help="a checkout of nanoGPT: its model in the plain loop, too")
    add("--output", type=Path, help="JSON (default: benchmarks/results/train-cpu.json or train-gpu.json)")
    options = parser.parse_args(given)
    options.shapes = options.shapes or list(DEFAULT_SHAPES[options.device])
    if unknown := sorted(set(options.shapes) - set(SHAPES)):
        parser.error(f"unknown preset {unknown[0]!r}: there are {', '.join(SHAPES)}")
    name = f"train-{'cpu' if options.device == 'cpu' else 'gpu'}.json"
    options.output = options.output or BENCHMARKS / "results" / name
    return options


def contenders(options: argparse.Namespace) -> list[str]:
    """Their names, in the order of their turns."""
    device = options.device
    if options.only:
        return options.only.split(",")
    names = list(CONTENDERS[device])
    if device == "cuda" and "liger-kernel" in versions():
        names += LIGER
    if options.nanogpt:
        names.append(BASELINE[device].replace("plain", "nanogpt"))
    return names + list(VARIANTS[device] if options.variants else ())


def measure(name: str, options: argparse.Namespace, folder: Path, console: Console) -> Measured:
    """All rounds of one shape."""
    batch, context = SHAPES[name][options.device]
    batch, context = options.batch or batch, options.context or context
    overrides = [*bench_overrides(name, batch, context, options.dropout), *sources(name, options.data), *options.set]
    config = configured(name, overrides)
    tokens = folder / f"{name}.bin"
    data = write_tokens(config, tokens)
    lap_steps = 1 if options.device == "cpu" else 10
    tokens_per_lap = lap_steps * config.train.batch_size * config.row_length

    def tell(number: int, turn: Turn, one: Measured) -> None:
        said = one.get("failed") or f"{tokens_per_second(one, tokens_per_lap):,.0f} tokens/s"
        console.print(f"{name}, round {number + 1} of {options.rounds}: {turn.contender}: {said}")

    turns = [
        Turn(
            contender=contender,
            preset=name,
            overrides=tuple(overrides),
            tokens=str(tokens),
            folder=str(folder),
            device=options.device,
            lap_steps=lap_steps,
            warmup_laps=options.warmup,
            laps=options.steps,
            seconds=options.seconds,
            nanogpt=options.nanogpt and str(options.nanogpt.resolve()),
        )
        for contender in contenders(options)
    ]
    ceilings = run_module("peers.ceiling", [options.device], folder / "ceiling.json", options.threads)
    console.print(f"{name}: {ceilings['bf16_flops_per_second'] / 1e12:.2f} TFLOP/s in bf16")
    peak = max(ceilings["bf16_flops_per_second"], ceilings["fp32_flops_per_second"])
    flops = flops_per_token(config.model, config.row_length)
    measured = run_rounds(turns, options.rounds, options.threads, tell)
    return {
        "command": shlex.join(["python", "benchmarks/train.py", *sys.argv[1:]]),
        "batch": config.train.batch_size,
        "context": config.row_length,
        "dropout": config.model.dropout,
        "parameters": parameters(config.model),
        "flops_per_token": flops,
        "data": data,
        "rounds": options.rounds,
        "laps": {"steps": lap_steps, "warm_up": options.warmup, "timed": options.steps, "seconds": options.seconds},
        "threads": options.threads,
        "commit": commit(),
        "nanogpt_commit": options.nanogpt and commit(options.nanogpt),
        "machine": machine(options.device),
        "versions": versions(),
        "ceilings": {**ceilings, "tokens_per_second": round(peak / flops)},
        "baseline": BASELINE[options.device],
        "contenders": summary(measured, tokens_per_lap, lap_steps, BASELINE[options.device], peak / flops),
    }


def main(given: list[str] | None = None) -> int:
    """Measure, write and print; 1 where storylm itself failed."""
    options, console = arguments(given), Console(stderr=True, highlight=False)
    results = {"what": "tokens trained on per second", "shapes": {}}
    if options.output.is_file():
        results["shapes"] = json.loads(options.output.read_text(encoding="utf-8"))["shapes"]
    with tempfile.TemporaryDirectory(prefix="storylm-bench-") as folder:
        os.environ["STORYLM_CACHE"] = str(Path(folder) / "cache")  # nothing of earlier runs is used
        for name in options.shapes:
            results["shapes"][name] = measure(name, options, Path(folder), console)
            write_text(options.output, json.dumps(results, indent=2) + "\n")
    shown = {**results, "shapes": {name: results["shapes"][name] for name in options.shapes}}
    print(table(shown))
    rows: list[dict[str, Any]] = [row for shape in shown["shapes"].values() for row in shape["contenders"]]
    return int(any("failed" in row and row["contender"].startswith("storylm") for row in rows))


if __name__ == "__main__":
    sys.exit(main())

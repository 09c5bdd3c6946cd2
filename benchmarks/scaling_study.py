"""How a small model's loss depends on its size, its shape, its vocabulary and the tokens it saw: 49 small runs.

    python benchmarks/scaling_study.py                          all of them, one after another
    python benchmarks/scaling_study.py --grid vocabulary        those of a grid: size, shape or vocabulary
    python benchmarks/scaling_study.py --fit --plot docs/images     fit the laws and draw, from what has been measured

Every run is `storylm train` in a process of its own, on the built-in stories or on the real ones of STORYLM_SHARED (of
which 4 % are held out and judged by; the validation file is not used). Results are kept run by run in
benchmarks/results/scaling-study.json: the same command goes on where it was stopped. docs/scaling-study.md tells what
came out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from peers.data import REAL, configured
from peers.kept import keep, read, write
from peers.machine import commit, machine, versions
from peers.rounds import BENCHMARKS, PATIENCE
from peers.said import last_words
from rich.console import Console
from study.grids import ROW, ROWS, Point, points
from study.pictures import chosen, draw
from study.words import nats_by_kind

import storylm
from storylm.data.grammar import entropy
from storylm.data.prepare import prepare_cached
from storylm.model.count import flops_per_token, parameters
from storylm.report.law import Law, fit, ranges
from storylm.training.run_folder import portable_settings

DATA = {
    "grammar": "grammar?stories=50000&validation=400",
    "real": str(REAL),
}
QUIET = (
    "data.validation_share=0.04",
    "train.eval_every=0",
    "train.sample_every=0",
    "train.sample_prompts=[]",
    "train.save_every=0",
    "train.judge_all=false",
    "train.eval_stories=1",
    "track.plot=false",
)


def overrides_of(point: Point, steps: int, changes: list[str]) -> list[str]:
    """All that is changed of story-1m."""
    return [f"data.source={DATA[point.source]}", *QUIET, *point.overrides(steps), *changes]


def settings_of(point: Point, changes: list[str]) -> dict[str, Any]:
    """What a point is trained with, but for its steps, which follow from its budget."""
    settings = portable_settings(configured("story-1m", overrides_of(point, 1, changes)))
    return {key: value for key, value in settings.items() if key not in ("about", "train.steps")}


def measure(point: Point, folder: Path, changes: list[str]) -> dict[str, Any]:
    """Train and judge one point."""
    prepared = prepare_cached(configured("story-1m", overrides_of(point, 1, changes)), quiet=True)
    tokens = point.budget
    if point.grid == "vocabulary":  # as many as the vocabulary makes of so many bytes
        tokens = round(point.budget * prepared.tokens("train") / prepared.bytes("train"))
    steps = max(1, round(tokens / (ROW * ROWS)))
    overrides = overrides_of(point, steps, changes)
    command = [sys.executable, "-m", "storylm", "train", "story-1m", *overrides, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    about = {"grid": point.grid, "source": point.source, "layers": point.layers, "width": point.width}
    about |= {"vocab_size": point.vocab_size, "changes": changes}
    if done.returncode:
        return about | {"failed": last_words(done.stderr)[:300]}
    model, tokenizer = storylm.load(folder / "checkpoints" / "last")
    assert tokenizer is not None  # a run saves its own
    held_out = prepared.validation_stories()
    likelihood = storylm.evaluate(model, tokenizer, held_out, stride=ROW // 2)
    state = json.loads((folder / "checkpoints/last/trainer_state.json").read_text(encoding="utf-8"))["values"]["state"]
    return about | {
        "parameters": parameters(model.config),
        "block_parameters": sum(weight.numel() for weight in model.blocks.parameters()),
        "tokens": state["tokens"],
        "flops": flops_per_token(model.config, ROW) * state["tokens"],
        "bits_per_byte": round(likelihood.bits_per_byte, 4),
        "nats_per_token": round(likelihood.nats_per_token, 4),
        "nats_per_word": nats_by_kind(model, tokenizer, held_out),
        "settings": settings_of(point, changes),
        "commit": commit(),
        "machine": machine("cpu"),
        "versions": versions(),
    }


def laws(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The laws of the size grid, with their floor free and, of the built-in stories, at their entropy.

    `ranges` are what the exponents and the floor become where any one of the runs is left out.
    """
    found = []
    for source, rows in chosen(runs, "size").items():
        losses = [(row["parameters"], row["tokens"], row["bits_per_byte"]) for row in rows]
        for floor in (None, entropy().bits_per_byte) if source == "grammar" else (None,):
            law, error = fit(losses, floor)
            sure = {key: list(ends) for key, ends in ranges(losses, floor).items()}
            found.append(
                {"source": source, "floor_given": floor is not None, **asdict(law)} | {"error": error, "ranges": sure}
            )
    return found


def fitted(results: dict[str, Any]) -> dict[str, Law]:
    """The law of each source, with its floor free, of those that the file has."""
    parts = [part.name for part in fields(Law)]
    free = [law for law in results.get("laws", []) if not law["floor_given"]]
    return {law["source"]: Law(**{part: law[part] for part in parts}) for law in free}


def main(given: list[str] | None = None) -> int:
    """Measure and write; or fit and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=sorted({point.grid for point in points()}))
    parser.add_argument("--source", choices=sorted(DATA))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs")
    parser.add_argument("--fit", action="store_true", help="fit the laws, measure nothing")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw, measure nothing (needs storylm[report])")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "scaling-study.json")
    options, console = parser.parse_args(given), Console(stderr=True, highlight=False)
    results = read(options.output, "runs")
    runs = results["runs"]
    if options.fit:
        results["laws"] = laws(list(runs.values()))
        write(options.output, results)
    if options.plot:
        draw(list(runs.values()), fitted(results), options.plot)
    if options.fit or options.plot:
        return 0

    def measured(point: Point) -> bool:
        row, now = runs.get(point.name, {"failed": "never begun"}), settings_of(point, options.set)
        as_now = row.get("settings", now) == now  # the first rows do not say; their commit does
        return "failed" not in row and row["changes"] == options.set and as_now

    grid = [
        point for point in points() if options.grid in (None, point.grid) and options.source in (None, point.source)
    ]
    wanted = [point for point in grid if not measured(point)]
    for number, point in enumerate(wanted, 1):
        with tempfile.TemporaryDirectory(prefix="storylm-study-") as folder:
            row = measure(point, Path(folder) / "run", options.set)
        runs = keep(options.output, "runs", point.name, row, what="losses of small runs")["runs"]
        console.print(f"{number} of {len(wanted)}: {point.name}: {row.get('failed') or row['bits_per_byte']}")
    return int(any("failed" in row for row in runs.values()))


if __name__ == "__main__":
    sys.exit(main())

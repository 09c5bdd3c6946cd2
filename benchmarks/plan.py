"""How right `storylm plan` is: plan a run, then train it, and compare the peak of memory and the time.

    python benchmarks/plan.py [PRESET...] [--steps 30] [--rounds 1] [--output benchmarks/results/plan.json]

Each plan and each run is a process of its own. The plan is made by the command, the run by `storylm train`'s function,
on the real TinyStories of `STORYLM_SHARED` (default: ../shared) where there are any, else on built-in stories; they
are prepared before. The memory of a run is the peak of its process's resident set, its time that from the first step,
compiling included, to the saved and judged model.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("STORYLM_SHARED", ROOT.parent / "shared"))
# Small batches, so that thirty steps take a minute; else as published, compiled as a long run would be.
PRESETS = {
    "xs-3m": ("train.batch_size=8",),
    "gpt2-33m": ("train.batch_size=4", "train.accumulation=2", "optim.warmup_steps=10"),
    "nano-22m": ("train.batch_size=32",),
}
COMMON = ("train.compile=on", "train.eval_every=0", "train.sample_every=0", "train.save_every=0")
GOALS = {"memory": 0.10, "time": 0.15}  # the largest error, as a share of what was measured
TRAIN = """
import json, sys, time
from pathlib import Path
from storylm.config.load import resolve
from storylm.training import run
from storylm.training.device import pick_device
from storylm.training.memory import peak_memory

def timed(session, loop=run.train_loop):
    global began
    began = time.perf_counter()
    return loop(session)

run.train_loop = timed
config = resolve(sys.argv[1], None, sys.argv[3:]).config
result = run.train_run(config, Path(sys.argv[2]))
seconds = time.perf_counter() - began
memory = peak_memory(pick_device(config.train.device))
print(json.dumps({"seconds": seconds, "memory_bytes": memory, "reason": result.reason}))
"""


def main() -> None:
    """Measure and write."""
    from peers.machine import commit, machine, versions

    from storylm.config.files import write_text

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all runs")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "plan.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(options.rounds):
            for name in options.presets:
                settings = [*COMMON, f"train.steps={options.steps}", *PRESETS.get(name, ()), *options.set]
                rows.append(compare(name, settings, Path(folder) / f"{name}-{round_number}", Path(folder)))
                print(line(rows[-1]), flush=True)
    what = "peak memory and time of short runs, as planned and as they were"
    results = {"what": what, "goals": GOALS, "commit": commit(), "machine": machine("cpu"), "versions": versions()}
    results["results"] = rows
    write_text(options.output, json.dumps(results, indent=2) + "\n")


def compare(name: str, settings: list[str], run: Path, folder: Path) -> dict[str, Any]:
    """Plan a run and train it."""
    # The tokenizer is the one of the prepared stories, which need not be fetched by its name.
    overrides = [*settings, f"data.source={prepared(name, folder)}", "tokenizer=bpe"]
    plan = json.loads(output(["-m", "storylm", "plan", name, *overrides, "--json"]))
    done = json.loads(output(["-c", TRAIN, name, str(run), *overrides]).splitlines()[-1])  # after the run's own lines
    assert done["reason"] == "finished", done
    pairs = {"memory": ("memory_bytes", "memory_bytes"), "time": ("seconds", "seconds")}
    compared = {
        what: {"planned": plan[ours], "measured": done[theirs], "error": plan[ours] / done[theirs] - 1}
        for what, (ours, theirs) in pairs.items()
    }
    estimate = json.loads(output(["-m", "storylm", "plan", name, *overrides, "--no-probe", "--json"]))["memory_bytes"]
    compared["memory"]["estimated"] = estimate  # what the plan says without a probe
    return {"preset": name, "settings": settings, **compared, "plan": plan}


def prepared(name: str, folder: Path) -> Path:
    """The stories of a run, tokenized as `name` wants it."""
    from storylm.config.load import preset
    from storylm.data.prepare import prepare

    config = preset(name)
    text, gpt2 = SHARED / "data" / "tinystories-train.txt.xz", SHARED / "reference" / "gpt2"
    source = str(text) if text.is_file() else "grammar?stories=5000"
    tokenizer = str(gpt2) if config.tokenizer == "gpt2" and gpt2.is_dir() else "bpe"
    out = folder / f"stories-{Path(tokenizer).name}-{config.model.vocab_size}"
    prepare(source, tokenizer, out, vocab_size=config.model.vocab_size, max_stories=5000, validation_share=0.01)
    return out


def output(arguments: list[str]) -> str:
    """What a Python process prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)[:80]} ... failed:\n{done.stderr[-2000:]}")
    return done.stdout


def table(results: dict[str, Any]) -> str:
    """The content of plan.json as a Markdown table."""
    head = [
        "| run | memory planned | measured | error | time planned | measured | error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*head, *map(line, results["results"])])


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    memory, time = row["memory"], row["time"]
    cells = [
        f"`{row['preset']}`, {row['plan']['steps']} steps of {row['plan']['tokens_per_step']:,} tokens",
        *(f"{memory[key] / 1e9:.2f} GB" for key in ("planned", "measured")),
        f"{memory['error']:+.1%}",
        *(f"{time[key]:.1f} s" for key in ("planned", "measured")),
        f"{time['error']:+.1%}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

"""Four presets trained for the same minutes on the real stories, judged by everything that works offline.

    python benchmarks/equal_time.py                 train, judge, and write docs/equal-time and its figures
    python benchmarks/equal_time.py --minutes 10    for longer

All of it is storylm's own commands, each in a process of its own and printed before it runs; what was done before (a
finished run, a model that was judged) is not done again. The stories are those of STORYLM_SHARED, and stories260K
(llama2.c) of the same folder gives its eyes: MAUVE, and the features of the learned judge.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.data import REAL, ROOT, SHARED, sources
from peers.machine import commit, machine, versions
from peers.rounds import BENCHMARKS

from storylm.config.files import write_text

VALIDATION = SHARED / "data" / "tinystories-valid.txt.xz"
EYES = SHARED / "reference" / "stories260K"
# Published learning rates for days on a GPU would hardly move in minutes: these are ours.
RUNS = {
    "story-1m": (),
    "story-5m": (),
    "xs-3m": ("optim.lr=3e-3",),
    "nano-22m": ("train.steps=null", "optim.lr=2e-3"),
}


def storylm(*arguments: str | Path) -> None:
    """A command, as anyone would type it."""
    given = ["storylm", *map(str, arguments)]
    print(f"$ {shlex.join(given)}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", *given], check=True)


def judge(folder: Path, run: str, eyes: Path) -> dict[str, Any]:
    """Everything that is asked of one model."""
    figures = folder / run / "evaluation.json"
    if not figures.exists():
        asked = ["--split", "all", "--details", "--suites", "all", "--stories", "100", "--train", REAL, "--eyes", eyes]
        storylm("evaluate", folder / run, VALIDATION, *asked, "--output", figures)
    judged = folder / "judged" / run
    if not (judged / "judged.json").exists():
        storylm("judge", folder / run, "--learned", folder / "judge", "--samples", "2", "--out", judged)
    found = json.loads(figures.read_text(encoding="utf-8"))
    (learned,) = json.loads((judged / "judged.json").read_text(encoding="utf-8")).values()
    return {"metrics": found["metrics"], "learned_judge": learned["metrics"]}


def main(given: list[str] | None = None) -> int:
    """Train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "equal-time", help="runs, eyes and judge")
    parser.add_argument("--pages", type=Path, default=ROOT / "docs" / "equal-time", help="leaderboard and report")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "equal-time.json")
    options = parser.parse_args(given)
    folder, runs = options.folder, [options.folder / run for run in RUNS]
    for run, changes in RUNS.items():
        storylm("train", run, *sources(run), *changes, f"train.minutes={options.minutes}", "--out", folder / run)
    eyes = folder / "stories260K"
    if not eyes.exists():
        storylm("convert", EYES / "stories260K.bin", eyes, "--tokenizer", EYES / "tok512.model")
    if not (folder / "judge").exists():
        storylm("judge", eyes, "--learn", REAL, "--learn-stories", "300", "--out", folder / "judge")
    results = {"what": "presets after the same minutes", "minutes": options.minutes, "commit": commit()}
    results |= {"machine": machine("cpu"), "versions": versions()}
    results["models"] = {run: judge(folder, run, eyes) for run in RUNS}
    write_text(options.output, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    storylm("leaderboard", *runs, "--data", VALIDATION, "--split", "all", "--eyes", eyes, "--out", options.pages)
    storylm("report", *runs, "--out", options.pages / "report.html", "--png", folder / "charts")
    for page in options.pages.iterdir():  # for others to read: where files lie here is nothing to them
        text = page.read_text(encoding="utf-8")
        for here in (SHARED / "data", SHARED / "reference", folder, ROOT):
            text = text.replace(f"{here.resolve()}/", "")
        write_text(page, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

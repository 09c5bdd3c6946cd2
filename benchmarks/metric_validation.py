"""Which metric of stories notices which damage? Real stories, damaged more and more, judged by every metric.

    python benchmarks/metric_validation.py [--stories 200] [--seeds 3] [--output benchmarks/results/metrics.json]
    python benchmarks/metric_validation.py --only mauve,distinct_1        some; the others' figures stay in the file

Stories are the first of the validation file in `STORYLM_SHARED` (default: ../shared), further ones are what MAUVE and
uncommon words compare with; the judge is stories260K (llama2.c) of the same folder. A metric ranks a damage if its
figure moves one way, from undamaged through every amount, with each of several seeds of damage.
"""

import argparse
import json
import lzma
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from peers.data import SHARED
from peers.machine import commit, versions
from rich.console import Console

from storylm.config.files import write_text
from storylm.evaluation.damage import DAMAGES, damaged
from storylm.evaluation.text.judge import METRICS, Real, judge_stories
from storylm.evaluation.text.metric import Told
from storylm.model.llama2c import read_llama2c
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

OUTPUT = Path(__file__).parent / "results" / "metrics.json"


def read_stories(count: int) -> list[str]:
    """The first `count` validation stories."""
    with lzma.open(SHARED / "data" / "tinystories-valid.txt.xz", "rt", encoding="utf-8") as file:
        stories = [story.strip() for story in file.read().split("<|endoftext|>") if story.strip()]
    return stories[:count]


def judge_model() -> tuple[Transformer, Tokenizer]:
    """A model that none of the damage was made with."""
    folder = SHARED / "reference" / "stories260K"
    return read_llama2c(folder / "stories260K.bin"), Tokenizer.load(folder / "tok512.model")


def figures(
    stories: list[str], others: list[str], judge: tuple[Transformer, Tokenizer] | None, only: set[str] | None = None
) -> dict[str, Any]:
    """Every metric of some stories, or `only` some metrics, by name: value, interval and direction."""
    told = [Told("", story) for story in stories]
    metrics = [metric for metric in METRICS if only is None or metric.name in only]
    judge = judge if only is None or only & {"mauve", "judge_bits_per_byte"} else None
    measures = judge_stories(told, Real([], [Told("", story) for story in others]), judge, metrics=metrics)
    return {measure.name: measure.to_json() for measure in measures if only is None or measure.name in only}


def validate(
    stories: list[str],
    others: list[str],
    judge: tuple[Transformer, Tokenizer] | None,
    seeds: int,
    console: Console,
    only: set[str] | None = None,
) -> dict[str, Any]:
    """For every metric, its figure of undamaged stories, and its figures and whether they are in order, by damage."""
    sound = figures(stories, others, judge, only)
    metrics: dict[str, Any] = {
        name: {"sound": row["value"], "interval": row["interval"], "direction": row["direction"], "damages": {}}
        for name, row in sound.items()
    }
    for kind, damage in DAMAGES.items():
        found = [
            [figures(damaged(stories, kind, amount, seed), others, judge, only) for amount in damage.amounts]
            for seed in range(seeds)
        ]
        for name, row in metrics.items():
            series = [[one[name]["value"] for one in of_seed] for of_seed in found]
            row["damages"][kind] = {
                "amounts": damage.amounts,
                "values": series[0],
                "ranked": all(in_order([row["sound"], *values]) for values in series),
            }
        console.print(
            f"{kind}: ranked by {', '.join(name for name in metrics if metrics[name]['damages'][kind]['ranked'])}"
        )
    return metrics


def in_order(values: list[float | None]) -> bool:
    """Whether values only rise, or only fall.

    >>> in_order([1, 2, 3]), in_order([3, 1, 0]), in_order([1, 3, 2]), in_order([1, 1, 1])
    (True, True, False, False)
    """
    known = [value for value in values if value is not None]
    pairs = list(pairwise(known))
    return len(known) == len(values) and (all(a < b for a, b in pairs) or all(a > b for a, b in pairs))


def main(given: list[str] | None = None) -> int:
    """Judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", type=lambda names: set(names.split(",")), metavar="NAMES")
    options = parser.parse_args(given)
    stories = read_stories(2 * options.stories)
    console = Console(stderr=True, highlight=False, width=120)
    kept: dict[str, Any] = {}
    if options.only and options.output.is_file():
        kept = json.loads(options.output.read_text(encoding="utf-8"))["metrics"]
    told, others = stories[: options.stories], stories[options.stories :]
    metrics = kept | validate(told, others, judge_model(), options.seeds, console, options.only)
    about = {
        "what": "metrics of real validation stories, sound and damaged",
        "stories": options.stories,
        "others": len(stories) - options.stories,
        "seeds": options.seeds,
        "judge": "stories260K",
        "versions": versions(("torch", "numpy", "sacrebleu", "rouge-score", "harper-py")),
        "commit": commit(),
    }
    write_text(options.output, json.dumps({**about, "metrics": metrics}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

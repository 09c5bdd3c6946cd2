"""Which metric of stories notices which damage? True endings, damaged more and more, judged by every metric.

    python benchmarks/metric_validation.py [--stories 200] [--seeds 3] [--output benchmarks/results/metrics.json]
    python benchmarks/metric_validation.py --only mauve,distinct_1        some; the others' figures stay in the file

Stories are the first of the validation file in `STORYLM_SHARED` (default: ../shared), parted as for telling: their
beginnings are given, their endings are damaged; MAUVE compares with further ones, the eyes are those of
stories260K (llama2.c) of the same folder, or of another model. A metric
ranks a damage if its figure moves one way, from undamaged through every amount, with each of several seeds of damage,
and that way is for the worse: away from sound stories where these are the mark. If it moves for the better, it moves
the wrong way.
"""

import argparse
import json
import lzma
import random
import sys
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from peers.data import SHARED
from peers.machine import commit, versions
from rich.console import Console

from storylm.cli.options import load_model
from storylm.config.files import write_text
from storylm.evaluation.damage import DAMAGES, damaged
from storylm.evaluation.telling import part
from storylm.evaluation.text.judge import METRICS, Real, judge_stories
from storylm.evaluation.text.metric import Told
from storylm.model.llama2c import read_llama2c
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

OUTPUT = Path(__file__).parent / "results" / "metrics.json"
STORIES260K = "stories260K"
ANOTHERS = "another story's ending"
AMOUNTS = {kind: damage.amounts for kind, damage in DAMAGES.items()} | {ANOTHERS: (0.2, 0.5, 1.0)}


def read_stories(count: int) -> list[Told]:
    """The first `count` validation stories that can be parted."""
    with lzma.open(SHARED / "data" / "tinystories-valid.txt.xz", "rt", encoding="utf-8") as file:
        stories = file.read().split("<|endoftext|>")
    return list(islice(filter(None, (part(story.strip()) for story in stories)), count))


def seeing(name: str) -> tuple[Transformer, Tokenizer]:
    """The model whose eyes these are: none of the damage was made with it."""
    if name != STORIES260K:
        return load_model(name, None, "cpu")
    folder = SHARED / "reference" / STORIES260K
    return read_llama2c(folder / "stories260K.bin"), Tokenizer.load(folder / "tok512.model")


def harmed(stories: Sequence[Told], kind: str, amount: float, seed: int) -> list[Told]:
    """The stories with damaged endings, or that share of them with the endings of others."""
    if kind != ANOTHERS:
        texts = damaged([story.told for story in stories], kind, amount, seed)
        return [Told(story.beginning, text) for story, text in zip(stories, texts, strict=True)]
    generator = random.Random(f"{seed} {amount}")
    chosen = set(generator.sample(range(len(stories)), round(amount * len(stories))))
    return [
        Told(story.beginning, stories[number - 1].told) if number in chosen else story
        for number, story in enumerate(stories)
    ]


def figures(
    told: Sequence[Told],
    others: Sequence[Told],
    eyes: tuple[Transformer, Tokenizer] | None,
    only: set[str] | None = None,
) -> dict[str, Any]:
    """Every metric of some stories, or `only` some metrics, by name: value, interval and direction."""
    metrics = [metric for metric in METRICS if only is None or metric.name in only]
    eyes = eyes if only is None or only & {"mauve", "eyes_bits_per_byte"} else None
    measures = judge_stories(told, Real([], others), eyes, metrics=metrics)
    return {measure.name: measure.to_json() for measure in measures if only is None or measure.name in only}


def validate(
    stories: Sequence[Told],
    others: Sequence[Told],
    eyes: tuple[Transformer, Tokenizer] | None,
    seeds: int,
    console: Console,
    only: set[str] | None = None,
) -> dict[str, Any]:
    """For every metric, its figure of undamaged stories, and its figures and which way they move, by damage."""
    sound = figures(stories, others, eyes, only)
    metrics: dict[str, Any] = {
        name: {"sound": row["value"], "interval": row["interval"], "direction": row["direction"], "damages": {}}
        for name, row in sound.items()
    }
    for kind, amounts in AMOUNTS.items():
        found = [
            [figures(harmed(stories, kind, amount, seed), others, eyes, only) for amount in amounts]
            for seed in range(seeds)
        ]
        for name, row in metrics.items():
            series = [[one[name]["value"] for one in of_seed] for of_seed in found]
            row["damages"][kind] = {
                "amounts": amounts,
                "values": series[0],
                **way([[row["sound"], *values] for values in series], row["direction"]),
            }
        console.print(
            f"{kind}: ranked by {', '.join(name for name in metrics if metrics[name]['damages'][kind]['ranked'])}"
        )
    return metrics


def way(series: list[list[float | None]], direction: str) -> dict[str, bool]:
    """Whether all series move one and the same way, each by itself, and whether that is for the worse.

    >>> way([[1, 2, 3], [1, 4, 5]], "lower")
    {'ranked': True, 'wrong_way': False}
    >>> way([[1, 2, 3], [1, 4, 5]], "higher"), way([[1, 2, 3], [3, 2, 1]], "reference")
    ({'ranked': False, 'wrong_way': True}, {'ranked': False, 'wrong_way': False})
    """
    trends = {trend(values) for values in series}
    one = trends.pop() if len(trends) == 1 else 0
    better = {"higher": 1, "lower": -1}.get(direction, 0)
    return {"ranked": one not in (0, better), "wrong_way": one != 0 and one == better}


def trend(values: list[float | None]) -> int:
    """1 where values only rise, -1 where they only fall, else 0.

    >>> trend([1, 2, 3]), trend([3, 1, 0]), trend([1, 3, 2]), trend([1, 1, 1])
    (1, -1, 0, 0)
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return 0
    steps = {(a < b) - (a > b) for a, b in pairwise(known)}
    return steps.pop() if len(steps) == 1 else 0


def main(given: list[str] | None = None) -> int:
    """Judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--eyes", default=STORIES260K, metavar="MODEL")
    parser.add_argument("--only", type=lambda names: set(names.split(",")), metavar="NAMES")
    options = parser.parse_args(given)
    stories = read_stories(2 * options.stories)
    console = Console(stderr=True, highlight=False, width=120)
    kept: dict[str, Any] = {}
    if options.only and options.output.is_file():
        kept = json.loads(options.output.read_text(encoding="utf-8"))["metrics"]
    told, others = stories[: options.stories], stories[options.stories :]
    metrics = kept | validate(told, others, seeing(options.eyes), options.seeds, console, options.only)
    about = {
        "what": "metrics of endings of real validation stories, sound and damaged",
        "stories": options.stories,
        "others": len(stories) - options.stories,
        "seeds": options.seeds,
        "eyes": options.eyes,
        "versions": versions(("torch", "numpy", "sacrebleu", "rouge-score", "harper-py")),
        "commit": commit(),
    }
    write_text(options.output, json.dumps({**about, "metrics": metrics}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Does a judge that learned damage tell damaged stories, of kinds too that it has not seen?

    python benchmarks/learned_judge.py [--output benchmarks/results/learned-judge.json]    on stories260K (llama2.c)
    python benchmarks/learned_judge.py --minutes 2                        on a model that is trained first, so long
    python benchmarks/learned_judge.py --model runs/mine                  on a model that is there already

Heads are fitted on the model's hidden states of `--stories` training stories of `STORYLM_SHARED` (default: ../shared),
sound and damaged, and judged on the first `--judged` validation stories. A model that is trained here learns from the
first training stories, and the heads from later ones; stories260K has seen all of TinyStories' training stories.

For each kind of damage: the judge that has seen it, the judge that has seen the five others, bits per byte and length
of the story alone, and heads fitted on these two numbers, with the kind seen and unseen.
"""

import argparse
import json
import lzma
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from metric_validation import STORIES260K, seeing
from peers.data import REAL, SHARED
from peers.machine import commit, versions
from rich.console import Console

from storylm.config.files import write_text
from storylm.config.load import resolve
from storylm.evaluation.damage import DAMAGES
from storylm.evaluation.judge.examples import Example, examples
from storylm.evaluation.judge.features import StateSummary, summarise
from storylm.evaluation.judge.learned import fit
from storylm.evaluation.judge.ranking import auc, in_order
from storylm.model.store import load
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.training.run import train_run

OUTPUT = Path(__file__).parent / "results" / "learned-judge.json"
LEARNED_FROM = 9_000  # training stories that the model may see; the heads' come after them
Scores = tuple[np.ndarray, np.ndarray]
"""Of each example: to tell damage by, and to rank it by."""


def stories_of(path: Path) -> Iterator[str]:
    """The stories of one of the shared files, in order."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        story: list[str] = []
        for line in file:
            if line.strip() == "<|endoftext|>":
                yield "".join(story).strip()
                story = []
            else:
                story.append(line)


def base_model(minutes: float, folder: Path) -> tuple[Transformer, Tokenizer]:
    """A model that has learned from the first stories for so many minutes."""
    settings = [
        f"data.source={REAL}",
        f"data.max_stories={LEARNED_FROM}",
        f"train.minutes={minutes}",
        "train.compile=off",  # a minute is too short to spend any of it on compiling
        "train.sample_every=0",
        "train.eval_every=0",
        "train.judge_all=false",
    ]
    model, tokenizer = load(train_run(resolve("minutes-1", None, settings).config, folder).model)
    assert tokenizer is not None
    return model, tokenizer


class Seen:
    """Examples, and what is known of each."""

    def __init__(self, found: list[Example], summary: StateSummary):
        self.examples = found
        self.severity = np.array([one.severity for one in found])
        self.kinds = np.array([one.kind or "" for one in found])
        self.features = {
            "judge": summary.features_SF,
            "bits per byte": summary.bits_per_byte[:, None],
            "length": summary.sizes[:, None],
            "both": np.stack([summary.bits_per_byte, summary.sizes], axis=1),
        }


def scores(learned: Seen, judged: Seen, by: str, without: str | None = None) -> Scores:
    """Heads on the features called `by`, fitted without one kind of damage and asked about all."""
    kept = learned.kinds != (without or "-")
    found = fit(learned.features[by][kept], learned.severity[kept])(judged.features[by])
    return found[:, 0], found[:, 1]


def figures(found: Scores, judged: Seen, kind: str | None) -> dict[str, float | None]:
    """How well damage of a kind (None: any) is told from sound stories, and ranked."""
    mine = (judged.severity == 0) | (np.full(len(judged.kinds), kind is None) | (judged.kinds == (kind or "")))
    of_mine = [one for one, there in zip(judged.examples, mine, strict=True) if there]
    told, ranked = found[0][mine], found[1][mine]
    values = auc(told, judged.severity[mine] > 0), in_order(ranked, of_mine)
    return {name: None if np.isnan(value) else value for name, value in zip(("auc", "order"), values, strict=True)}


def compare(learned: Seen, judged: Seen) -> dict[str, Any]:
    """Every judge on every kind of damage."""
    seen = {by: scores(learned, judged, by) for by in learned.features}
    rows: dict[str, Any] = {"any": {by: figures(found, judged, None) for by, found in seen.items()}}
    for kind in DAMAGES:
        rows[kind] = {by: figures(found, judged, kind) for by, found in seen.items()}
        for by in ("judge", "both"):
            rows[kind][f"{by}, unseen"] = figures(scores(learned, judged, by, kind), judged, kind)
    return rows


def main(given: list[str] | None = None) -> int:
    """Train, fit, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="train a model for so long")
    parser.add_argument("--model", help="a model folder or a run")
    parser.add_argument("--stories", type=int, default=300)
    parser.add_argument("--judged", type=int, default=120)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(given)
    console = Console(stderr=True, highlight=False, width=120)
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            name, (model, tokenizer) = options.model, load(options.model)
        elif options.minutes:
            name = f"minutes-1, trained for {options.minutes:g} min"
            model, tokenizer = base_model(options.minutes, Path(folder) / "run")
        else:
            name, (model, tokenizer) = STORIES260K, seeing(STORIES260K)
    assert tokenizer is not None
    train = list(islice(stories_of(REAL), LEARNED_FROM, LEARNED_FROM + options.stories))
    valid = list(islice(stories_of(SHARED / "data" / "tinystories-valid.txt.xz"), options.judged))
    sets = []
    for stories, seed in ((train, 0), (valid, 1)):
        found = examples(stories, seed=seed)
        console.print(f"{len(found):,} examples of {len(stories):,} stories")
        sets.append(Seen(found, summarise(model, tokenizer, [one.text for one in found])))
    learned, judged = sets
    sound = judged.severity == 0
    bits = judged.features["bits per byte"][sound, 0] @ judged.features["length"][sound, 0]
    about = {
        "what": "damaged stories told from sound ones, and ranked by how badly, on validation stories",
        "model": {
            "name": name,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "bits_per_byte_with_end": float(bits / judged.features["length"][sound, 0].sum()),
        },
        "stories": {"learned": len(train), "judged": len(valid)},
        "examples": {"learned": len(learned.examples), "judged": len(judged.examples)},
        "versions": versions(("torch", "numpy")),
        "commit": commit(),
    }
    write_text(options.output, json.dumps({**about, "kinds": compare(learned, judged)}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

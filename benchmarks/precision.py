"""What fewer bits cost: bits per byte by the engine that tells stories, and where its stories first differ.

    python benchmarks/precision.py grammar-1m runs/first --data FILE

Every story of the file goes through the decoder's reader in fp32, bf16 and int8; then each tells ten stories greedily,
whose tokens are held against those of fp32. Kept in benchmarks/results/precision.json.
"""

import argparse
import json
import math
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from peers.data import SHARED
from peers.machine import commit, machine, versions
from peers.rounds import BENCHMARKS
from rich.console import Console

import storylm
from storylm.config.files import write_text
from storylm.evaluation.corpus import Corpus
from storylm.generation.decoder import Decoder, Draft
from storylm.generation.native.decode import NativeModel, kinds
from storylm.generation.reading import build_reader
from storylm.generation.sampling import Sampling
from storylm.model.count import parameters
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

VALIDATION = SHARED / "data" / "tinystories-valid.txt.xz"
BEGINNINGS = (
    *("Once upon a time", "One day", "There was a little", "The sun", "Tom and Lily"),
    *("A big dog", "In the park", "Mom said", "Sara had a", "Far away"),
)


def bits_per_byte(model: Transformer, tokenizer: Tokenizer, stories: list[str], kind: str) -> float:
    """Of the stories that fit the context, each from its start token on."""
    reader = NativeModel(model, kind, slots=1, capacity=model.config.context)
    nats, size = 0.0, 0
    for story in stories:
        ids = torch.tensor([tokenizer.start_id, *tokenizer.encode(story)])
        if len(ids) > model.config.context:
            continue
        places = torch.arange(len(ids))
        scores = reader.read(ids, places, torch.zeros_like(ids), range(len(ids)))[:-1, : tokenizer.vocab_size]
        nats -= float(scores.double().log_softmax(-1).gather(1, ids[1:, None]).sum())
        size += len(story.encode())
    return nats / math.log(2) / size


def greedy(model: Transformer, tokenizer: Tokenizer, precision: str) -> list[list[int]]:
    """The tokens of ten stories."""
    decoder = Decoder(build_reader(model, len(BEGINNINGS), model.config.context, precision), tokenizer.vocab_size)
    drafts = [Draft([tokenizer.start_id, *tokenizer.encode(text)], 0, Sampling(temperature=0)) for text in BEGINNINGS]
    for draft in drafts:
        decoder.add(draft)
    for _ in range(min(200, model.config.context - 20)):
        decoder.step()
    return [draft.drawn for draft in drafts]


def measure(source: str, stories: list[str]) -> dict[str, Any]:
    """A model in every kind of numbers."""
    model, tokenizer = storylm.load(source)
    assert tokenizer is not None
    rows: dict[str, Any] = {}
    reference = greedy(model, tokenizer, "fp32")
    for kind in kinds():
        rows[kind] = {"bits_per_byte": round(bits_per_byte(model, tokenizer, stories, kind), 5)}
        if kind in ("bf16", "int8"):
            told = greedy(model, tokenizer, kind)
            pairs = [list(zip(a, b, strict=True)) for a, b in zip(told, reference, strict=True)]
            same = [sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], each)) for each in pairs]
            rows[kind] |= {"tokens_until_another": sorted(same), "of": len(reference[0])}
    return {"parameters": parameters(model.config), "kinds": rows, "commit": commit()}


def main(given: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", default=str(VALIDATION), help="stories to judge by")
    parser.add_argument("--max-stories", type=int)
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "precision.json")
    options, console = parser.parse_args(given), Console(stderr=True, highlight=False)
    results: dict[str, Any] = {"models": {}}
    if options.output.is_file():
        results = json.loads(options.output.read_text(encoding="utf-8"))
    results |= {"what": "bits per byte by numbers of the matrices", "machine": machine("cpu"), "versions": versions()}
    stories = list(Corpus(options.data))[: options.max_stories]
    for source in options.models:
        row = results["models"][Path(source).name] = {"data": Path(options.data).name, **measure(source, stories)}
        write_text(options.output, json.dumps(results, indent=2) + "\n")
        figures = (f"{kind} {one['bits_per_byte']:.4f}" for kind, one in row["kinds"].items())
        console.print(f"{source}: {', '.join(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

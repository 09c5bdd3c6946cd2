"""How fast encoders turn stories into ids, side by side: gigatoken, tiktoken, tokenizers.

    python benchmarks/encoding.py [--repeats 5] [--output benchmarks/results/encoding.json]

Same text, same ids (checked, on every story), same run. In each repeat every encoder is built anew and reads half of
the stories, untimed; then it is timed on the other half, which it has not seen: encoders remember words. gigatoken
is timed as storylm uses it, story by story on one thread, the others in batches on all of them. The text is the real
TinyStories of `STORYLM_SHARED` (default: ../shared) where there are any, else built-in stories.
"""

import argparse
import importlib.metadata
import json
import lzma
import os
import platform
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from storylm.config.files import write_text
from storylm.data.grammar import stories as built_in_stories
from storylm.text.bytelevel import ALPHABET
from storylm.text.encoders import ENCODERS, Encode
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("STORYLM_SHARED", ROOT.parent / "shared"))
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# GPT-2's split, as in its encoder.py, of which tiktoken needs to be told.
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def tiktoken_encoder(tokenizer: Tokenizer) -> Encode | None:
    """The same vocabulary in tiktoken; None where it is not GPT-2's kind or tiktoken is not installed."""
    try:
        import tiktoken
    except ImportError:
        return None
    if not tokenizer.lossless:
        return None
    vocabulary = json.loads(tokenizer._tokenizer.to_str())["model"]["vocab"]
    byte_of = {character: byte for byte, character in enumerate(ALPHABET)}
    ranks = {
        bytes(byte_of[character] for character in token): id
        for token, id in vocabulary.items()
        if id not in tokenizer.special_ids
    }
    special = {tokenizer.end: tokenizer.end_id}
    encoding = tiktoken.Encoding("own", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens=special)
    return lambda texts: [
        np.array(ids, np.uint32) for ids in encoding.encode_ordinary_batch(list(texts), num_threads=CORES)
    ]


BUILD: dict[str, tuple[int, Callable[[Tokenizer], Encode | None]]] = {
    "gigatoken": (1, lambda tokenizer: ENCODERS["gigatoken"](tokenizer._tokenizer)),
    "tiktoken": (CORES, tiktoken_encoder),
    "tokenizers": (CORES, lambda tokenizer: ENCODERS["tokenizers"](tokenizer._tokenizer)),
}


def measure(name: str, tokenizer: Tokenizer, seen: Sequence[str], timed: Sequence[str], repeats: int) -> list[dict]:
    """One row for each encoder: MB/s over the repeats, and as a multiple of tokenizers'."""
    speeds: dict[str, list[float]] = {encoder: [] for encoder in BUILD}
    megabytes = sum(len(text.encode()) for text in timed) / 1e6
    for _ in range(repeats):
        expected: list[list[np.ndarray]] = []
        for encoder in reversed(BUILD):  # tokenizers first: it says what is right
            encode = BUILD[encoder][1](tokenizer)
            if encode is None:
                continue
            ids = [encode(seen)]
            start = time.perf_counter()
            ids.append(encode(timed))
            speeds[encoder].append(megabytes / (time.perf_counter() - start))
            expected = expected or ids
            for batch, right in zip(ids, expected, strict=True):
                assert all(map(np.array_equal, batch, right)), f"{encoder} gives other ids than tokenizers for {name}"
    base = median(speeds["tokenizers"])
    return [
        {
            "tokenizer": name,
            "vocab_size": tokenizer.vocab_size,
            "encoder": encoder,
            "threads": BUILD[encoder][0],
            "mb_per_s": {"median": round(median(of), 2), "min": round(min(of), 2), "max": round(max(of), 2)},
            "times_tokenizers": round(median(of) / base, 2),
            "same_ids": True,
        }
        for encoder, of in speeds.items()
        if of
    ]


def read_stories() -> tuple[str, list[str]]:
    path = SHARED / "data" / "tinystories-train.txt.xz"
    if not path.is_file():
        return "built-in stories, seed 0", list(islice(built_in_stories(0), 10_000))
    with lzma.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    return path.name, [story.strip() for story in text.split("<|endoftext|>") if story.strip()]


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "encoding.json")
    options = parser.parse_args()

    source, stories = read_stories()
    seen, timed = stories[::2], stories[1::2]
    tokenizers = {"own 4k": train_bpe(seen, 4096)}
    for name in ("gpt2", "mistral"):
        if (SHARED / "reference" / name).is_dir():
            tokenizers[name] = Tokenizer.load(SHARED / "reference" / name)
    results = [
        row for name, tokenizer in tokenizers.items() for row in measure(name, tokenizer, seen, timed, options.repeats)
    ]
    about = {
        "what": "encoding speed, MB of UTF-8 text per second; ids checked equal on every story",
        "text": {"source": source, "stories": len(timed), "bytes": sum(len(text.encode()) for text in timed)},
        "repeats": options.repeats,
        "machine": {"processor": platform.machine(), "system": platform.system(), "cores": CORES},
        "versions": {name: version(name) for name in ("storylm", "gigatoken", "tiktoken", "tokenizers")},
    }
    write_text(options.output, json.dumps({**about, "results": results}, indent=2) + "\n")

    table = Table("tokenizer", "encoder", box=None, title=f"encoding {about['text']['bytes'] / 1e6:.1f} MB of {source}")
    for column in ("threads", "MB/s, median", "min to max", "x tokenizers"):
        table.add_column(column, justify="right")
    for row in results:
        speed = row["mb_per_s"]
        spread = f"{speed['min']:.1f} to {speed['max']:.1f}"
        cells = (str(row["threads"]), f"{speed['median']:.1f}", spread, f"{row['times_tokenizers']:.1f}")
        table.add_row(row["tokenizer"], row["encoder"], *cells)
    Console(highlight=False, width=100).print(table)


if __name__ == "__main__":
    main()

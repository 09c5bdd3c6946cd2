"""A turn that is over in a second."""

from pathlib import Path
from typing import Any

from peers.data import bench_overrides, configured, write_tokens
from peers.turn import Turn

SMALL = ("model.vocab_size=320", "model.width=32", "model.layers=2", "model.heads=2", "data.cleaning.fragments=false")
SOURCE = "grammar?stories=200&validation=3"


def turn(contender: str, folder: Path, preset: str = "gpt2-33m", **changes: Any) -> Turn:
    """A turn on built-in stories, whose tokens are prepared in `folder`: 3 rows of 16 tokens."""
    overrides = (*bench_overrides(preset, 3, 16, 0.0), *SMALL, f"data.source={SOURCE}", "tokenizer=bpe")
    tokens = folder / "train.bin"
    write_tokens(configured(preset, list(overrides)), tokens)
    options = {"laps": 2, "seconds": 0.0, "warmup_laps": 1, **changes}
    return Turn(contender, preset, overrides, str(tokens), str(folder), **options)

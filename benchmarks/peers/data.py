"""The tokens that all contenders train on: prepared as storylm does it, and as a bare file for the others."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from storylm.config.errors import UsageError
from storylm.config.load import apply_overrides, preset
from storylm.config.schema import RunConfig
from storylm.data.prepare import prepare_cached
from storylm.data.shards import TokenSet

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("STORYLM_SHARED", ROOT.parent / "shared"))
REAL = SHARED / "data" / "tinystories-train.txt.xz"
BUILT_IN = "grammar?stories=20000&validation=10"


def sources(name: str, data: str | None = None) -> list[str]:
    """Overrides of the preset `name`: `data` or the real stories if they are here, else built-in ones.

    A published vocabulary is taken from `SHARED` too; where it is not there, one is trained on the stories, of
    which fewer rows of the model's table are then in use.
    """
    source = data or (str(REAL) if REAL.is_file() else BUILT_IN)
    tokenizer = preset(name).tokenizer
    there = SHARED / "reference" / tokenizer
    return [f"data.source={source}", f"tokenizer={there if there.is_dir() else 'bpe'}"]


def write_tokens(config: RunConfig, path: Path) -> dict[str, Any]:
    """Prepare the run's stories and write the ids of train, one after another, to `path`; what they are."""
    prepared = prepare_cached(config)
    ids, rows = prepared.tokenizer.vocab_size, config.model.vocab_size
    if ids > rows:
        raise UsageError(f"{config.tokenizer} has {ids:,} tokens but model.vocab_size={rows:,}: set tokenizer=bpe")
    copy_tokens(prepared.split("train"), path)
    return {
        "source": Path(config.data.source).name,
        "tokenizer": Path(config.tokenizer).name,
        "ids_in_use": ids,
        "tokens": prepared.tokens("train"),
        "stories": prepared.stories("train"),
    }


def copy_tokens(tokens: TokenSet, path: Path) -> None:
    """The ids of `tokens` as a file of nothing else, as nanoGPT's prepare.py leaves them."""
    np.concatenate([shard.tokens for shard in tokens.shards]).tofile(path)


def bench_overrides(name: str, batch: int, context: int, dropout: float) -> list[str]:
    """What makes the preset `name` comparable: packed rows, AdamW, one batch a step."""
    longest = max(context, preset(name).model.context)
    return [
        f"model.context={longest}",
        f"model.dropout={dropout}",
        "data.layout=packed",
        f"data.context={context}",
        f"train.batch_size={batch}",
        "train.accumulation=1",
        "optim.optimizer=adamw",
    ]


def configured(name: str, overrides: list[str]) -> RunConfig:
    """The preset with overrides."""
    return apply_overrides(preset(name), overrides)

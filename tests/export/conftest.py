"""Small models that have a form elsewhere, all sizes different, and the tokenizers they stand beside."""

import os
from importlib import import_module
from typing import Any

import pytest
import torch

from storylm.config.model import ModelConfig
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    "She said, \"Don't!\"  Two  spaces.\n\nTom's 12 cats ran .",
    "“Café” — naïve 🦊 雪",
    " leading space",
    "\tTab and \n line end\n",
]
LENGTH = 33
VOCABULARY = 320  # more rows than the tokenizer has tokens


def config(family: str, **changes) -> ModelConfig:
    """A model with no two sizes alike, and rows of which some divide by 32 and some do not."""
    sizes = {"vocab_size": VOCABULARY, "context": 40, "layers": 3, "width": 96, "heads": 6, "ff_width": 160}
    return ModelConfig(**{"family": family, **sizes, **changes})


EXPRESSIBLE = {
    "llama": config("llama", kv_heads=2, head_dim=16, norm_eps=1e-5),
    "llama-tied": config("llama", kv_heads=3, tied=True, rope_layout="interleaved", rope_theta=500.0, ff_width=72),
    "mistral": config("mistral", kv_heads=2, windows=(40,)),
    "qwen3": config("qwen3", kv_heads=2, head_dim=24, tied=True, rope_theta=1234.5),
    "qwen3-untied": config("qwen3", heads=4, kv_heads=1, head_dim=32, rope_layout="interleaved"),
    "gpt2": config("gpt2"),
    "gpt2-untied": config("gpt2", tied=False, norm_eps=1e-3),
}
"""What llama.cpp has a form for."""


def needed(package: str) -> Any:
    """A package that only `make test-all` installs: where it is missing the test is skipped, but fails there."""
    if os.environ.get("STORYLM_TEST_ALL") == "1":
        return import_module(package)
    return pytest.importorskip(package, reason=f"make test-all installs {package}")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def own() -> Tokenizer:
    return train_bpe(TEXTS * 20, 300)

"""The tokenizers that tests of this room share; each is loaded once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

KINDS = ("bytes", "own", "gpt2", "mistral", "llama2c")
LOSSLESS = ("bytes", "own", "gpt2")

# Small stories, so that tests need no real ones: curly quotes, accents, an emoji.
STORIES = [
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
    "One day, Tom saw a big, red ball. “Can I play with it?” he asked. “Yes!” said his mom.\n\nThey were happy.",
    "The cat sat on the naïve café's mat 🙂 and didn't know what to do. It's 12 o'clock.",
] * 5


@pytest.fixture(scope="session")
def tokenizer_of(request: pytest.FixtureRequest) -> Callable[[str], Tokenizer]:
    """The tokenizer of one of `KINDS`; the test is skipped where its file is not at hand."""

    @cache
    def get(kind: str) -> Tokenizer:
        tokenizer = load(kind)
        assert tokenizer.encoder  # is chosen now, before a test hides a package for a while
        return tokenizer

    def load(kind: str) -> Tokenizer:
        if kind == "bytes":
            return Tokenizer.load("bytes")
        if kind == "own":
            return train_bpe(STORIES, 400)
        reference: Path = request.getfixturevalue("shared") / "reference"
        return Tokenizer.load(reference / {"llama2c": "stories260K/tok512.model"}.get(kind, kind))

    return get

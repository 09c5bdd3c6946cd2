"""A browser, and a model for it to stop."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import storylm
from serve.process import Server as Server  # for who opens its page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser_path() -> str:
    """Where Chromium is: `STORYLM_CHROMIUM`, or on the PATH."""
    path = os.environ.get("STORYLM_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} on the PATH; name one in STORYLM_CHROMIUM")
    return path


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = browser_path()
    with playwright.sync_playwright() as driver:
        # As root, which containers run as, its sandbox cannot start; the pages are our own.
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def save_babbler(folder: Path, context: int = 4096) -> Path:
    """A model of random weights: with top_k=50 it never ends, and babbles on in bytes that make no characters.

    It is large enough that who stops it stops it long before its context is full.
    """
    _, tokenizer = storylm.load("grammar-1m")
    assert tokenizer is not None
    config = storylm.ModelConfig(
        family="llama", layers=4, width=512, heads=8, context=context, vocab_size=tokenizer.vocab_size, tied=False
    )
    torch.manual_seed(5)
    model = storylm.Transformer(config)
    with torch.no_grad():
        model.head_weight[tokenizer.end_id] = 0
        model.head_weight[:] *= 30
    storylm.save(model, tokenizer, folder)
    return folder

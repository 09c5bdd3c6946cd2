"""A browser, a model for it to stop, and what tests say to the page."""

import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import storylm
from serve.process import Server as Server  # for who opens its page

BEGINNING = "Once upon a time, there was a"
TOLD = {"prompt": BEGINNING, "seed": 7, "max_tokens": 400, "told": 1}  # to its end
ENDLESS = {"model": "babble", "prompt": "Once", "max_tokens": 4000, "top_k": 50, "seed": 3, "told": 1}
KEY = "a key that is long enough"
SECONDS = 15
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


def words(page, story: int = 1) -> list[str]:
    """The story's words as the page shows them, the sign of the end left out."""
    return page.locator(f"#stories .story:nth-child({story}) .word:not(.end)").evaluate_all(
        "all => all.map(one => one.textContent)"
    )


def until(page, condition: str) -> None:
    """Wait until this is so. Playwright's own way is `eval`, which the page's policy forbids."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"it did not come to {condition}"
        page.wait_for_timeout(20)


def text(page, story: int = 1) -> str:
    return "".join(words(page, story))


def told(page) -> None:
    """Wait until nothing is on its way."""
    until(page, "document.getElementById('tell').textContent === 'Tell the story'")


def open_told(page, server: Server, **settings: Any) -> None:
    page.goto(server.address(**{**TOLD, **settings}))
    page.locator(".word").first.wait_for()
    told(page)


def asked(server: Server, **settings: Any) -> dict[str, Any]:
    """The choice that the API gives for what the page asks."""
    body = {"model": "grammar-1m", "prompt": BEGINNING, "seed": 7, "max_tokens": 400, "temperature": 0.8}
    return server.post("/v1/completions", **{**body, "echo": True, "logprobs": 5, **settings})["choices"][0]


def percent(nats: float) -> str:
    share = math.exp(nats)
    return "< 0.1 %" if share < 0.0005 else "> 99.9 %" if share > 0.9995 else f"{100 * share:.1f} %"

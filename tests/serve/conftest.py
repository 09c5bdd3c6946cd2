"""A server of two small models, asked without sockets; and one before a browser."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from generation.conftest import SHAPE, VARIANTS, build
from serve.playground import KEY, SECONDS, Server, browser, save_babbler
from storylm.config.model import ModelConfig
from storylm.serve.api import create_app
from storylm.serve.host import Host
from storylm.serve.settings import ServeSettings
from storylm.text.tokenizer import Tokenizer

Asked = Callable[..., TestClient]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load("bytes")


@pytest.fixture(scope="session")
def models() -> dict:
    """Two of different families and weights, by name."""
    return {
        name: build(ModelConfig(**{**SHAPE, **VARIANTS[name], "init_std": 0.1}), seed).eval()
        for seed, name in enumerate(("qwen3", "gpt_neo"))
    }


@pytest.fixture
def served(models: dict, tokenizer: Tokenizer) -> Iterator[Asked]:
    """Starts servers with the settings given, and ends them."""
    threads = torch.get_num_threads()
    with ExitStack() as stack:

        def start(slots: int = 4, **settings) -> TestClient:
            settings = ServeSettings(slots=slots, **settings)
            hosts = [Host(name, model, tokenizer, slots) for name, model in models.items()]
            app = create_app(hosts, settings)
            return stack.enter_context(TestClient(app, base_url="http://localhost", raise_server_exceptions=False))

        yield start
    torch.set_num_threads(threads)


@pytest.fixture
def client(served: Asked) -> TestClient:
    return served()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory) -> Iterator[Server]:
    """Two models: one that tells stories, one that babbles without end."""
    server = Server("grammar-1m", str(save_babbler(tmp_path_factory.mktemp("models") / "babble")))
    yield server
    server.close()


@pytest.fixture
def page(chromium) -> Iterator[Any]:
    """A page that must ask its own server alone and fail in nothing."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, asked, failed = context.new_page(), [], []
    page.set_default_timeout(1000 * SECONDS)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda said: failed.append(said.text) if "Content Security" in said.text else None)
    yield page
    own = page.url.partition("#")[0]
    context.close()
    assert asked
    assert [url for url in asked if not url.startswith(own)] == []
    assert failed == []


@pytest.fixture(scope="module")
def strict_server(chromium) -> Iterator[Server]:
    """One that asks for a key and takes one story at a time."""
    server = Server("grammar-1m", "--slots", "1", "--queue", "0", key=KEY)
    yield server
    server.close()

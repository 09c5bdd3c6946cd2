"""A server of two small models, asked without sockets."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from starlette.testclient import TestClient

from generation.conftest import SHAPE, VARIANTS, build
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

"""A small model of every family, with weights large enough that mistakes show, and stories of bytes."""

import pytest

from model.model_zoo import ENLARGED, ZOO, random_model
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

STORIES = ["Tom had a big red ball.", "A cat sat. It ran to Tim.", "Once, all birds sang at noon."]


@pytest.fixture(params=ZOO)
def model(request: pytest.FixtureRequest) -> Transformer:
    """Its vocabulary is that of bytes and some padding."""
    config = ZOO[request.param].model_copy(update={"vocab_size": 261})
    return random_model(config, scale=ENLARGED)


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    return Tokenizer.load("bytes")

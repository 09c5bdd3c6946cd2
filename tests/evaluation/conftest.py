"""A small GPT-2 of transformers' and the same one as ours, and stories short and long."""

from collections.abc import Iterator

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import storylm
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

CONTEXT = 32


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models so small are slower on several, and very much so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def theirs() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=260,
        n_positions=CONTEXT,
        n_embd=24,
        n_layer=2,
        n_head=3,
        n_inner=40,
        initializer_range=0.3,
        bos_token_id=256,
        eos_token_id=256,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="session")
def model_folder(theirs, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    theirs.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(model_folder) -> Transformer:
    return storylm.load(model_folder)[0]


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    return Tokenizer.load("bytes")


@pytest.fixture(scope="session")
def stories() -> list[str]:
    """Short ones, long ones, one that just fits, one that just does not; letters of one to four bytes."""
    exact = "x" * CONTEXT
    return [
        "A cat.",
        exact,
        exact + "y",
        "Ünïcödé 🙂",
        "Once upon a time, in a forest – " * 9,
        "z",
        "<|endoftext|>",
    ] * 3

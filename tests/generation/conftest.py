"""A tokenizer and models small enough to try everything on."""

from collections.abc import Iterator, Sequence

import pytest
import torch

from storylm.config.model import ModelConfig
from storylm.generation import reading, sampling
from storylm.generation.native import kernels
from storylm.model.transformer import Transformer


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models so small are slower on several, and very much so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["native", "torch"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What asks for it is tested with the C++ and with PyTorch."""
    if request.param == "torch":
        for module in (reading, sampling):
            monkeypatch.setattr(module, "kernels", lambda device: None)
    elif kernels() is None:
        pytest.skip("no C++ compiler here")
    return request.param


class LetterTokenizer:
    """Bytes as tokens behind a start and an end token; as of `text.tokenizer`, but without files."""

    name, start_id, end_id, vocab_size = "letters", 256, 257, 258
    special_ids = frozenset({256, 257})

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode(errors="replace")


class WordTokenizer:
    """Three words, pieced together as SentencePiece does: a space before each word but none at the very start."""

    name, start_id, end_id, vocab_size = "words", 0, 1, 5
    special_ids = frozenset({0, 1})
    words = ("", "", " the", " cat", " sat")

    def encode(self, text: str) -> list[int]:
        return [self.words.index(" " + word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[token] for token in ids).removeprefix(" ")


@pytest.fixture
def letters() -> LetterTokenizer:
    return LetterTokenizer()


@pytest.fixture
def words() -> WordTokenizer:
    return WordTokenizer()


# Every number differs; windows are shorter than the text; weights are large, so that mistakes show.
SHAPE = {
    "vocab_size": 261,
    "context": 48,
    "layers": 3,
    "width": 24,
    "heads": 4,
    "ff_width": 40,
    "init_std": 0.25,
}
VARIANTS = {
    "gpt_neo": {"family": "gpt_neo", "windows": (None, 7)},
    "gpt2": {"family": "gpt2", "dropout": 0.3},
    "llama": {"family": "llama", "kv_heads": 2, "rope_layout": "interleaved"},
    "mistral": {"family": "mistral", "kv_heads": 1, "windows": (5,)},
    "qwen3": {"family": "qwen3", "head_dim": 10, "tied": True},
    "nope": {"family": "llama", "positions": "none", "windows": (None, 3, 11)},
}


def build(config: ModelConfig, seed: int = 0) -> Transformer:
    model = Transformer(config).initialise(torch.Generator().manual_seed(seed))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(seed + 1))
    return model


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Transformer:
    return build(ModelConfig(**{**SHAPE, **VARIANTS[request.param]}))

"""Tiny models on one thread, and a tokenizer of every kind with the family it is used in."""

import pytest
import torch

from storylm.model import native
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    "She said, \"Don't!\"  Two  spaces.\n\nTom's 12 cats ran .",
    "“Café” — naïve 🦊 雪",
    " leading space",
    "\tTab and \n line end\n",
]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """More threads than one each only make small models wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizers(request: pytest.FixtureRequest) -> dict[str, tuple[str, Tokenizer]]:
    """What to call it -> (family, tokenizer): our own in every family, the published ones where they are."""
    own = train_bpe(TEXTS * 20, 300)
    found = {f"own-{family}": (family, own) for family in ("gpt_neo", "gpt2", "llama", "mistral", "qwen3")}
    found["bytes"] = ("qwen3", Tokenizer.load("bytes"))
    try:
        reference = request.getfixturevalue("shared") / "reference"
    except pytest.skip.Exception:
        return found
    for family in ("gpt2", "gpt_neo"):
        found[f"gpt2-{family}"] = (family, Tokenizer.load(reference / "gpt2"))
    found["mistral"] = ("mistral", Tokenizer.load(reference / "mistral"))
    found["tok512"] = ("llama", Tokenizer.load(reference / "stories260K" / "tok512.model"))
    return found


@pytest.fixture(params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test is run with this package's kernels, and without them as where there is no compiler."""
    if request.param == "torch":
        monkeypatch.setattr(native, "available", lambda device: False)
    elif not native.available(torch.device("cpu")):
        pytest.skip("no C++ compiler here")
    return request.param

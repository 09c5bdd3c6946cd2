"""Tools that look inside models load an exported folder as it is: TransformerLens 4 and nnsight."""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from export.conftest import config
from model.model_zoo import random_model, random_tokens
from storylm.export.exporting import export
from storylm.text.tokenizer import Tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs, of many kinds
APART = "pip install 'storylm[lens]' in an environment of its own to run this"
FAMILIES = ("llama", "mistral", "qwen3", "gpt2", "gpt_neo")
WITHIN = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    windows = {"windows": (8,)} if request.param == "mistral" else {}
    grouped = {"kv_heads": 2} if request.param in ("llama", "mistral", "qwen3") else {}
    export(random_model(config(request.param, **windows, **grouped), 4.0), own, "hf", tmp_path / "out")
    return tmp_path / "out"


def expected(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    from storylm import load

    model, _ = load(folder)
    tokens = random_tokens(model.config)
    with torch.no_grad():
        return tokens, model(tokens)


def test_transformer_lens(folder: Path) -> None:
    pytest.importorskip("transformer_lens", reason=APART)
    assert version("transformer-lens").startswith("4."), "written for version 4, whose bridge reads a folder"
    bridge = import_module("transformer_lens.model_bridge").TransformerBridge.boot_transformers(str(folder))
    tokens, logits = expected(folder)
    with torch.no_grad():
        found, cache = bridge.run_with_cache(tokens)
    torch.testing.assert_close(found.cpu(), logits, **WITHIN)
    assert cache["blocks.2.hook_resid_post"].shape == (2, tokens.shape[1], 96)


def test_nnsight(folder: Path) -> None:
    nnsight = pytest.importorskip("nnsight", reason=APART)
    lens = nnsight.LanguageModel(str(folder), dispatch=True)
    tokens, logits = expected(folder)
    with torch.no_grad(), lens.trace(tokens):
        found = lens.output.logits.save()
    torch.testing.assert_close(found.cpu(), logits, **WITHIN)

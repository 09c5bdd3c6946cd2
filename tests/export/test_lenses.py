"""TransformerLens 4 and nnsight load an exported folder as it is, and see inside what we see."""

from importlib import import_module, metadata
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from export.conftest import config, needed
from model.model_zoo import random_model, random_tokens
from storylm.export.exporting import export
from storylm.text.tokenizer import Tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs, of many kinds
BLOCKS = {
    **dict.fromkeys(("llama", "mistral", "qwen3"), "model.layers"),
    **dict.fromkeys(("gpt2", "gpt_neo"), "transformer.h"),
}
"""Where transformers has the blocks of a family."""

LAYER = 1  # of 3: what a block in the middle gives to the next
WITHIN = {"atol": 1e-4, "rtol": 1e-4}


class Seen(NamedTuple):
    """A folder, and what our model makes of tokens [B, T]: logits [B, T, V], the stream after a block [B, T, D]."""

    folder: str
    blocks: str
    tokens: torch.Tensor
    logits: torch.Tensor
    stream: torch.Tensor


@pytest.fixture(params=BLOCKS)
def seen(request: pytest.FixtureRequest, own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    windows = {"windows": (8,)} if request.param == "mistral" else {}
    grouped = {"kv_heads": 2} if request.param in ("llama", "mistral", "qwen3") else {}
    model = random_model(config(request.param, **windows, **grouped), 4.0)
    export(model, own, "hf", tmp_path / "out")
    streams: list[torch.Tensor] = []
    model.blocks[LAYER].register_forward_hook(lambda part, given, stream: streams.append(stream))
    tokens = random_tokens(model.config)
    with torch.no_grad():
        logits = model(tokens)
    return Seen(str(tmp_path / "out"), BLOCKS[request.param], tokens, logits, streams[0])


def test_transformer_lens(seen: Seen) -> None:
    needed("transformer_lens")
    assert metadata.version("transformer-lens").startswith("4.")
    bridge = import_module("transformer_lens.model_bridge").TransformerBridge.boot_transformers(seen.folder)
    with torch.no_grad():
        found, cache = bridge.run_with_cache(seen.tokens)
    torch.testing.assert_close(found.cpu(), seen.logits, **WITHIN)
    torch.testing.assert_close(cache[f"blocks.{LAYER}.hook_resid_post"].cpu(), seen.stream, **WITHIN)


def test_nnsight(seen: Seen) -> None:
    lens = needed("nnsight").LanguageModel(seen.folder, dispatch=True)
    block = attrgetter(seen.blocks)(lens)[LAYER]
    with torch.no_grad(), lens.trace(seen.tokens):
        stream = block.output.save()
        found = lens.output.logits.save()
    stream = stream[0] if isinstance(stream, tuple) else stream
    torch.testing.assert_close(found.cpu(), seen.logits, **WITHIN)
    torch.testing.assert_close(stream.cpu(), seen.stream, **WITHIN)

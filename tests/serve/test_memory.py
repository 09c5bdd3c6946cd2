"""docs/serving.md says how much memory keys and values take: held against what a reader has of them."""

from pathlib import Path

import pytest

from generation.conftest import SHAPE, build
from storylm.config.model import ModelConfig
from storylm.generation.native import kernels
from storylm.generation.reading import NativeReader
from storylm.generation.torch_reader import TorchReader

SLOTS, BYTES = 3, {"fp32": 4, "bf16": 2, "int8": 1}


@pytest.mark.parametrize("precision", BYTES)
def test_keys_and_values_take_what_the_page_says(precision):
    config = ModelConfig(**{**SHAPE, "family": "llama", "kv_heads": 2, "context": 256, "head_dim": 16})
    model = build(config).eval()
    numbers = SLOTS * config.context * config.layers * 2 * config.kv_heads * config.head_dim
    reader = TorchReader(model, SLOTS, config.context, precision)
    list(reader.read_all(0, [1, 2, 3]))
    kept = [each for pair in reader._cache._layers.values() for each in pair]
    of_torch = numbers * {**BYTES, "int8": 2}[precision]
    assert sum(each.nbytes for each in kept) == pytest.approx(of_torch, rel=1 / config.context)  # a place that is none
    if kernels() is None:
        pytest.skip("no C++ compiler here")
    layers = NativeReader(model, SLOTS, config.context, precision)._model._kept
    size = SLOTS * config.kv_heads * config.context * config.head_dim
    found = [each for each in layers if each.dim() == 1 and each.numel() == size]
    assert sum(each.nbytes for each in found) == numbers * BYTES[precision]


def test_the_pages_example():
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    bytes_of_a_slot = 2048 * 12 * 2 * 12 * 64 * 4
    for slots in (32, 8):
        assert f"{slots * bytes_of_a_slot / 1e9:.1f} GB" in page

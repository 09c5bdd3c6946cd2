"""Counts from the description alone, held against the real module."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from storylm.config.load import apply_overrides, preset, preset_names
from storylm.config.model import FAMILIES, ModelConfig
from storylm.model.count import activation_bytes, flops_per_token, parameters
from storylm.model.loss import _CHUNK_ELEMENTS
from storylm.model.transformer import Transformer
from storylm.optim.build import build_optimizers
from storylm.training.needs import checkpoint_bytes, training_bytes

PUBLISHED = {
    "xs-3m": 3_647_680,
    "gpt2-33m": 30_142_848,
    "word-20m": 20_730_368,
    "nano-22m": 21_955_584,
    "mistral-40m": 40_609_152,
    "llama2c-260k": 260_032,
    "llama2c-15m": 15_191_712,
    "llama2c-110m": 109_529_856,
    "cs336-17m": 22_696_448,
}


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    kv_heads = draw(st.integers(1, 3))
    return ModelConfig.model_validate(
        {
            "family": draw(st.sampled_from(sorted(FAMILIES))),
            "vocab_size": draw(st.integers(2, 40)),
            "context": draw(st.integers(1, 30)),
            "layers": draw(st.integers(1, 3)),
            "width": draw(st.integers(1, 20)),
            "kv_heads": kv_heads,
            "heads": kv_heads * draw(st.integers(1, 3)),
            "head_dim": 2 * draw(st.integers(1, 5)),
            "ff_width": draw(st.integers(1, 30)),
            "positions": draw(st.sampled_from(["learned", "rotary", "none"])),
            "norm": draw(st.sampled_from(["layernorm", "rmsnorm"])),
            "windows": draw(st.lists(st.none() | st.integers(1, 40), min_size=1, max_size=3)),
            **{
                name: draw(st.booleans())
                for name in ("gated", "qk_norm", "attention_bias", "output_bias", "ff_bias", "tied")
            },
        }
    )


def real_parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Transformer(config).parameters())


@pytest.mark.parametrize("name", preset_names())
def test_parameters_of_every_preset(name: str) -> None:
    model = preset(name).model
    assert parameters(model) == real_parameters(model) == PUBLISHED.get(name, parameters(model))


@given(models())
def test_parameters_of_any_model(config: ModelConfig) -> None:
    assert parameters(config) == real_parameters(config)


def test_flops_of_the_published() -> None:
    """By the formula 6 (weights) + 12 L d (mean keys): 23, 187 and 132 million."""
    for name, millions in {"xs-3m": 23, "gpt2-33m": 187, "nano-22m": 132}.items():
        assert flops_per_token(preset(name).model) / 1e6 == pytest.approx(millions, rel=0.01)


@given(models(), st.integers(1, 12))
@settings(max_examples=30)
def test_flops_are_those_of_the_multiplications(config: ModelConfig, length: int) -> None:
    """Against torch's own count of a forward pass, where attention is dense: all keys, seen or not."""
    length = min(length, config.context)
    model = Transformer(config).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, length, dtype=torch.long))
    counted = {name.__name__: count for name, count in counter.get_flop_counts()["Global"].items()}
    matrices = sum(count for name, count in counted.items() if name in ("mm.default", "addmm.default", "mm", "addmm"))
    keys = sum(
        sum(min(place + 1, config.window(layer) or length) for place in range(length)) for layer in range(config.layers)
    )
    attention = 4 * config.heads * config.head_dim * keys
    assert flops_per_token(config, length) == pytest.approx(3 * (matrices + attention) / length, abs=1)


def test_windows_save_work_and_longer_rows_cost_more() -> None:
    model = preset("mistral-40m").model
    full = model.model_copy(update={"windows": (None,)})
    assert flops_per_token(model, 384) == flops_per_token(full, 384)
    assert flops_per_token(model, 4096) < flops_per_token(full, 4096)
    assert flops_per_token(model, 512) < flops_per_token(model, 4096)


@pytest.mark.parametrize("name", ["story-1m", "xs-3m"])
def test_a_checkpoint_holds_weights_and_moments(name: str) -> None:
    config = preset(name)
    model = Transformer(config.model).initialise(torch.Generator().manual_seed(0))
    optimizers = build_optimizers(model, config.optim)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    held = sum(parameter.nbytes for parameter in model.parameters())
    for optimizer in optimizers:
        optimizer.step()
        held += sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim)
    assert checkpoint_bytes(config) == held


def test_the_chunk_of_the_loss_is_the_real_one() -> None:
    from storylm.model.count import LOSS_CHUNK

    assert LOSS_CHUNK == _CHUNK_ELEMENTS


@pytest.mark.parametrize("name", ["story-5m", "simple-5m", "xs-3m", "gpt2-33m", "nano-22m"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_layer_keeps_is_about_what_autograd_keeps(name: str, precision: str) -> None:
    """The difference that two layers and two rows more make, of what hangs on the graph."""
    config = preset(name).model.model_copy(update={"vocab_size": 32, "context": 48})

    def kept(layers: int, rows: int) -> int:
        model = Transformer(config.model_copy(update={"layers": layers})).train()
        ours = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
        held = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = (storage.nbytes(), storage)  # the storage too, lest its address be used again
            return tensor

        tokens = torch.zeros(rows, 48, dtype=torch.long)
        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            hidden = model.hidden(tokens)
        assert hidden.requires_grad
        return sum(size for pointer, (size, _) in held.items() if pointer not in ours)

    measured = (kept(3, 3) - kept(1, 3) - kept(3, 1) + kept(1, 1)) / 4

    def estimate(layers: int, rows: int) -> int:
        model = config.model_copy(update={"layers": layers})
        return activation_bytes(model, rows, 48, precision)

    estimated = (estimate(3, 3) - estimate(1, 3) - estimate(3, 1) + estimate(1, 1)) / 4
    assert estimated == pytest.approx(measured, rel=0.15)


MEASURE = """
import torch
from storylm.config.load import resolve
from storylm.model.loss import next_token_loss
from storylm.model.transformer import Transformer
from storylm.optim.build import build_optimizers

def train(overrides, rows):
    config = resolve("story-5m", None, overrides).config
    model = Transformer(config.model).initialise(torch.Generator().manual_seed(0))
    optimizers = build_optimizers(model, config.optim)
    tokens = torch.randint(64, (rows, 128))
    loss, _ = next_token_loss(model.hidden(tokens), model.head_weight, tokens)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()

def peak():  # of this process's own memory; getrusage would count what it was forked from
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) * 1024

train(["model.layers=1", "model.vocab_size=64"], 1)
before = peak()
train([], 24)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_training_bytes_are_near_the_peak_of_a_real_step() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    config = apply_overrides(preset("story-5m"), ["data.context=128"])
    estimated = training_bytes(config, 24, "fp32", torch.device("cpu"))
    assert abs(math.log(estimated / int(done.stdout))) < math.log(1.5), (estimated, done.stdout)

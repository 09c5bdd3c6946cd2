"""Readers against the whole text through the model: in parts, in company, in slots that others had before."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.generation import reading, torch_reader
from storylm.generation.matrices import attend_in_bf16
from storylm.generation.native import decode, kernels
from storylm.generation.native.decode import AT_ONCE, KINDS, NativeModel, kinds
from storylm.generation.reading import Part, build_reader
from storylm.generation.torch_reader import TorchReader
from storylm.model.int8 import from_int8, int8_rows
from storylm.model.native import build as build_native
from storylm.model.transformer import Transformer

LENGTH = AT_ONCE + 10
LONG = {**VARIANTS, "wide": {"family": "llama", "head_dim": 64, "kv_heads": 2}}  # heads as wide as several vectors
native = pytest.mark.skipif(kernels() is None, reason="no C++ compiler here")


def long(variant: str) -> Transformer:
    """Of a context in which the cache of a window of 7 or 5 goes round several times."""
    return build(ModelConfig(**{**SHAPE, **LONG[variant], "context": 4 * AT_ONCE})).eval()


def tokens(model: Transformer, seed: int, length: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.vocab_size, (length,), generator=generator).tolist()


@torch.inference_mode()
def in_full(model: Transformer, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids]))[0, -1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_read_together_are_read_as_alone(variant, by, monkeypatch):
    """Prompts of several lengths and single tokens in one pass; a slot that a longer story had before."""
    monkeypatch.setattr(torch_reader, "AT_ONCE", 16)
    model = long(variant)
    texts = [tokens(model, seed, length) for seed, length in enumerate((200, 1, 90, 30))]
    reader = build_reader(model, slots=5, capacity=4 * AT_ONCE)
    reader.read([Part(3, 0, tokens(model, 9, 150))])
    reader.read([Part(4, 0, texts[0][:130]), Part(1, 0, texts[2][:89])])
    for place in range(130, 199):
        reader.read([Part(4, place, [texts[0][place]])])
    parts = [Part(4, 199, texts[0][199:]), Part(0, 0, texts[1]), Part(1, 89, texts[2][89:]), Part(3, 0, texts[3])]
    for scores, text in zip(reader.read(parts), texts, strict=True):
        torch.testing.assert_close(scores, in_full(model, text), rtol=0, atol=2e-5)


class Again:
    """What a CUDA graph does, without the graph."""

    def record(self, work):
        work()
        return work


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_slots_at_once_are_read_as_alone(variant, monkeypatch):
    """As on a GPU, where slots without a story, or whose prompt is about to be read, are in the pass, too."""
    monkeypatch.setattr(torch_reader, "AT_ONCE", 11)
    model = long(variant)
    texts = [tokens(model, seed, length) for seed, length in enumerate((90, 70, 40))]
    reader = TorchReader(model, slots=4, capacity=4 * AT_ONCE)
    reader._recorder = Again()
    reader.read([Part(2, 0, texts[0][:50]), Part(0, 0, texts[1][:30])])
    for place in range(50, 90):
        parts = [Part(2, place, [texts[0][place]]), Part(0, place - 20, [texts[1][place - 20]])]
        new = [Part(1, 0, texts[2])] if place == 70 else []
        scores = reader.read(parts + new)
        torch.testing.assert_close(scores[0], in_full(model, texts[0][: place + 1]), rtol=0, atol=2e-5)
        torch.testing.assert_close(scores[1], in_full(model, texts[1][: place - 19]), rtol=0, atol=2e-5)
        if new:
            torch.testing.assert_close(scores[2], in_full(model, texts[2]), rtol=0, atol=2e-5)


@native
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", LONG)
def test_scores_are_the_same_to_the_bit_in_any_company_and_on_any_threads(variant, kind):
    if kind not in kinds():
        pytest.skip(f"this processor has no {kind}")
    model = long(variant)
    texts = [torch.tensor(tokens(model, seed, LENGTH)) for seed in range(5)]
    places = torch.arange(LENGTH)
    told = []
    for threads in (1, 2):
        reader = NativeModel(model, kind, 5, 4 * AT_ONCE)
        reader.threads = threads
        one_by_one = [
            reader.read(texts[0][n : n + 1], places[n : n + 1], torch.tensor([2]), [0]) for n in range(LENGTH)
        ]
        told.append(torch.cat(one_by_one))
        at_once = reader.read(texts[0], places, torch.full((LENGTH,), 4), range(LENGTH))
        told.append(at_once)
        beside = [
            reader.read(torch.stack([text[n] for text in texts]), places[n].expand(5), torch.arange(5), [0])
            for n in range(LENGTH)
        ]
        told.append(torch.cat(beside))
    assert all(torch.equal(scores, told[0]) for scores in told[1:])
    assert told[0].std() > 0.5


class Rounding:
    """A cache of one pass, in bf16 or in eight bits and a scale of each key and value."""

    def __init__(self, bits: int):
        self.bits = bits

    def update(self, layer, k, v, positions):
        return self.rounded(k), self.rounded(v)

    def rounded(self, x):
        if self.bits == 16:
            return x.bfloat16().float()
        most = x.abs().amax(-1, keepdim=True)
        return (x * (127 / most)).round() * (most / 127)

    def key_positions(self, positions, window):
        return positions


def multiplied(kind: str, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What a matrix in these numbers makes of rows."""
    if kind == "fp32":
        return F.linear(x, weight)
    if kind == "bf16":
        return F.linear(x.bfloat16().float(), weight.bfloat16().float())
    numbers, scales = int8_rows(weight)
    if kind == "int8_weights":
        return F.linear(x, numbers.float()) * scales
    own = x.abs().amax(-1, keepdim=True) / 127
    return F.linear((x * (1 / own)).round(), numbers.float()) * (scales * own)  # whole numbers below 2^24: exact


@torch.inference_mode()
def in_numbers(kind: str, model: Transformer, ids: list[int], cached: int = 16) -> torch.Tensor:
    """`in_full` with matrices in these numbers, written out; keys and values in so many bits."""
    own = copy.deepcopy(model)
    for module in own.modules():
        if isinstance(module, torch.nn.Linear):
            bias = 0 if module.bias is None else module.bias
            module.forward = lambda x, weight=module.weight, bias=bias: multiplied(kind, x, weight) + bias
    places = torch.arange(len(ids))[None]
    hidden = own.hidden(torch.tensor([ids]), places, cache=None if kind == "fp32" else Rounding(cached))
    return multiplied(kind, hidden[0, -1], model.head_weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", LONG)
def test_scores_are_those_of_the_numbers_written_out(variant, kind, by):
    """Of most texts: where a rounding falls to the other side, as one in ten thousand does, others follow it."""
    model, near = long(variant), []
    for text in (tokens(model, seed, 12) for seed in range(5)):
        if by == "torch" and kind != "int8":
            scores = TorchReader(model, 1, 64, kind.removesuffix("_weights")).read([Part(0, 0, text)])
        elif by == "native" and kind in kinds():
            places = torch.arange(len(text))
            scores = NativeModel(model, kind, 1, 64).read(torch.tensor(text), places, 0 * places, [len(text) - 1])
        else:
            pytest.skip(f"{by} has no {kind} here")
        cached = 8 if by == "native" and kind.startswith("int8") else 16
        expected, full = in_numbers(kind, model, text, cached), in_full(model, text)
        near.append(float((scores[0] - expected).abs().max()))
        assert near[-1] < 0.1 * full.std()
        assert kind == "fp32" or (expected - full).abs().max() > 5e-3
    assert sorted(near)[2] < 2e-4


@pytest.mark.parametrize("variant", LONG)
def test_attention_in_bf16_is_a_little_less_exact(variant):
    """As on a GPU."""
    model, text = long(variant), tokens(long(variant), 0, 60)
    reader = TorchReader(model, 1, 64, "bf16")
    attend_in_bf16(reader._model)
    expected = in_numbers("bf16", model, text)
    scores = reader.read([Part(0, 0, text)])[0]
    assert 1e-4 < (scores - expected).abs().max() < 0.1 * expected.std()
    assert {kept.dtype for layer in reader._cache._layers.values() for kept in layer} == {torch.bfloat16}


@native
@pytest.mark.slow
def test_without_openmp_one_thread_reads(tmp_path, monkeypatch):
    """As with Apple's compiler."""
    program = tmp_path / "c++"
    program.write_text('#!/bin/sh\nfor one; do [ "$one" = -fopenmp ] && exit 1; done\nexec g++ "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    found = build_native.library.__wrapped__(Path(decode.__file__).parent)
    assert found is not None
    monkeypatch.setattr(decode, "kernels", lambda: found)
    model, text = long("llama"), tokens(long("llama"), 0, 60)
    for threads in (1, 2):
        reader = NativeModel(model, "fp32", 1, 64)
        reader.threads = threads
        scores = reader.read(torch.tensor(text), torch.arange(60), torch.zeros(60, dtype=torch.int64), [59])
        torch.testing.assert_close(scores[0], in_full(model, text), rtol=0, atol=2e-5)


def test_int8_rows_are_the_nearest_numbers_and_come_again():
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * torch.arange(7)[:, None]
    numbers, scales = int8_rows(weight)
    assert (numbers.abs().amax(1) == torch.tensor([0, *[127] * 6])).all()
    back = from_int8(numbers, scales)
    assert ((back - weight).abs() <= scales[:, None] / 2 * 1.0001).all()
    assert torch.equal(int8_rows(back)[0], numbers)


@native
def test_int8_is_that_of_the_weights_alone_where_the_processor_has_no_more(monkeypatch):
    model = long("llama")
    text = tokens(model, 0, 60)
    monkeypatch.setattr(reading, "kinds", lambda: [kind for kind in KINDS if kind != "int8"])
    scores = build_reader(model, 1, 64, "int8").read([Part(0, 0, text)])
    weights = NativeModel(model, "int8_weights", 1, 64)
    expected = weights.read(torch.tensor(text), torch.arange(60), torch.zeros(60, dtype=torch.int64), [59])
    assert torch.equal(scores, expected)


def test_no_reader_goes_beyond_the_context(by):
    model = build(ModelConfig(**{**SHAPE, **VARIANTS["llama"]}))
    for capacity in (0, SHAPE["context"] + 1):
        with pytest.raises(UsageError, match=f"capacity={capacity} is not allowed: .* from 1 to .* 48"):
            build_reader(model, 1, capacity)


@native
@pytest.mark.parametrize(
    ("tokens", "places", "slots", "words"),
    [
        ([261], [0], [0], "tokens are 1 .* from 261 to 261: 1 .* from 0 to 260"),
        ([-1], [0], [0], "tokens .* from -1"),
        ([0], [48], [0], "places .* to 47 are allowed"),
        ([0, 0], [1, -1], [0, 0], "places .* from -1"),
        ([0], [0], [2], "slots .* to 1 are allowed"),
        ([0, 0], [0], [0, 0], "places are 1 .*: 2 "),
        ([0], [0.0], [0], "places .* torch.float32"),
    ],
)
def test_what_is_not_there_is_not_read(tokens, places, slots, words):
    reader = NativeModel(build(ModelConfig(**{**SHAPE, **VARIANTS["gpt2"]})), "fp32", 2, 48)
    with pytest.raises(ValueError, match=words):
        reader.read(torch.tensor(tokens), torch.tensor(places), torch.tensor(slots), [0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_of_other_numbers_is_read_in_fp32(variant, dtype, by):
    model = long(variant).to(dtype)
    text = tokens(model, 0, 60)
    scores = build_reader(model, 1, 64).read([Part(0, 0, text)])[0]
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, in_full(model.float(), text), rtol=0, atol=2e-5)

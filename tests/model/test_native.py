"""The kernels in C++ against PyTorch's own, written out."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from storylm.config.model import ModelConfig
from storylm.model import native
from storylm.model.native import build
from storylm.model.native.activation import gelu_tanh
from storylm.model.native.attention import attend
from storylm.model.native.dropout import drop
from storylm.model.sight import first_visible
from storylm.model.transformer import Transformer

pytestmark = pytest.mark.skipif(not native.available(torch.device("cpu")), reason="no C++ compiler here")

SEED = torch.tensor(12345)


def heads(batch: int, tokens: int, query_heads: int, key_heads: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys, values as they leave a projection, in enlarged numbers so that weights are far from even."""
    generator = torch.Generator().manual_seed(7)
    shapes = [(batch, tokens, count, width) for count in (query_heads, key_heads, key_heads)]
    return [
        torch.randn(shape, generator=generator).mul(2).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes
    ]


def written_out(q: Tensor, k: Tensor, v: Tensor, first: Tensor, scale: float, kept: Tensor | None = None) -> Tensor:
    """Attention in fp64 over a [T, T] matrix, [B, T, H, K]; `kept` multiplies the weights."""
    q, k, v = q.double(), *(x.double().repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    places = torch.arange(q.shape[2])
    seen = (places >= first[:, :, None]) & (places <= places[:, None])
    weights = (q @ k.mT * scale).masked_fill(~seen[:, None], -torch.inf).softmax(-1)
    return ((weights if kept is None else weights * kept) @ v).transpose(1, 2)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Within roundings of fp32, of the largest: gradients are differences of larger numbers."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * max(1.0, float(theirs.abs().max())))


@settings(max_examples=60)
@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 90),
    groups=st.integers(1, 3),
    per_group=st.integers(1, 3),
    width=st.sampled_from([1, 4, 6, 8, 16, 24, 48, 64, 96, 128]),
    window=st.sampled_from([None, 1, 7, 20]),
    separate=st.booleans(),
)
def test_attention_and_its_gradients_equal_attention_written_out(
    batch: int, tokens: int, groups: int, per_group: int, width: int, window: int | None, separate: bool
) -> None:
    torch.manual_seed(0)
    q, k, v = heads(batch, tokens, groups * per_group, groups, width, torch.float32)
    documents = torch.randint(2, (batch, tokens)).cumsum(1) if separate else None
    first = first_visible(tokens, window, documents).expand(batch, -1).contiguous()
    scale = 1.3 / width**0.5
    ours, _ = attend(q, k, v, first, scale, 0.0, None)
    theirs = written_out(q, k, v, first, scale)
    gradient = torch.randn(ours.shape)
    ours_back = torch.autograd.grad(ours, (q, k, v), gradient)
    theirs_back = torch.autograd.grad(theirs, (q, k, v), gradient.double())
    for a, b in zip((ours, *ours_back), (theirs, *theirs_back), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("width", [4, 64])
def test_attention_in_bf16_is_as_exact_as_bf16(width: int) -> None:
    torch.manual_seed(0)
    q, k, v = heads(2, 70, 4, 2, width, torch.bfloat16)
    first = first_visible(70, None, None).expand(2, -1).contiguous()
    ours, _ = attend(q, k, v, first, width**-0.5, 0.0, None)
    theirs = written_out(q, k, v, first, width**-0.5)
    assert ours.dtype == torch.bfloat16
    gradient = torch.randn(ours.shape).bfloat16()
    ours_back = torch.autograd.grad(ours, (q, k, v), gradient)
    theirs_back = torch.autograd.grad(theirs, (q, k, v), gradient.double())
    for a, b in zip((ours, *ours_back), (theirs, *theirs_back), strict=True):
        error = (a.double() - b).abs().max() / b.abs().max()
        assert error < 0.016  # four of bf16's roundings


@pytest.mark.parametrize("width", [4, 40])
def test_dropped_weights_are_the_same_in_both_passes(width: int) -> None:
    """Values that are rows of the identity show the weights, and so which of them were dropped."""
    tokens, rate = 40, 0.3
    q, k, _ = heads(2, tokens, 3, 3, width, torch.float32)
    shown = torch.zeros(2, 3, tokens, width)
    first = first_visible(tokens, None, None).expand(2, -1).contiguous()
    weights = torch.zeros(2, tokens, 3, tokens)
    for begin in range(0, tokens, width):
        shown.zero_()
        for i in range(begin, min(begin + width, tokens)):
            shown[:, :, i, i - begin] = 1.0
        weights[..., begin : begin + width] = attend(q, k, shown, first, 0.5, rate, SEED)[0][..., : tokens - begin]
    kept = (weights.transpose(1, 2) > 0) / (1 - rate)
    causal = torch.ones(tokens, tokens).tril().bool()
    assert abs(float((kept[..., causal] > 0).float().mean()) - 0.7) < 0.02
    assert not kept[0, 0].equal(kept[0, 1])  # heads and rows differ
    assert not kept[0, 0].equal(kept[1, 0])

    v = heads(2, tokens, 3, 3, width, torch.float32)[2]
    ours, _ = attend(q, k, v, first, 0.5, rate, SEED)
    theirs = written_out(q, k, v, first, 0.5, kept.double())
    gradient = torch.randn(ours.shape)
    ours_back = torch.autograd.grad(ours, (q, k, v), gradient)
    theirs_back = torch.autograd.grad(theirs, (q, k, v), gradient.double())
    for a, b in zip((ours, *ours_back), (theirs, *theirs_back), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("shape", [(3,), (5, 4099), (64, 300)])
def test_dropout_keeps_the_mean_and_its_gradient_is_its_mask(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape).add(1).to(dtype).requires_grad_()
    y = drop(x, 0.25, SEED)
    kept = y != 0
    torch.testing.assert_close(y[kept], (x.float() / 0.75).to(dtype)[kept])
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient.equal((kept / 0.75).to(dtype))
    if x.numel() > 1000:
        assert abs(float(kept.float().mean()) - 0.75) < 0.01
        neighbours = kept.flatten()[1:] & kept.flatten()[:-1]
        assert abs(float(neighbours.float().mean()) - 0.75**2) < 0.015  # independent of each other
        assert not kept.equal(drop(x, 0.25, SEED + 1) != 0)


@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("size", [7, 5000, 70_001])
def test_gelu_and_its_gradient_are_torchs(dtype: torch.dtype, size: int) -> None:
    x = torch.cat([torch.linspace(-30, 30, size), torch.tensor([0.0, -1e4, 1e4])]).to(dtype).requires_grad_()
    gradient = torch.linspace(-2, 3, len(x)).to(dtype)
    exact = F.gelu(x.double(), approximate="tanh")
    for ours, theirs in (
        (gelu_tanh(x), exact),
        (torch.autograd.grad(gelu_tanh(x), x, gradient)[0], torch.autograd.grad(exact, x, gradient.double())[0]),
    ):
        assert ours.dtype == dtype
        rounding = 2**-8 if dtype == torch.bfloat16 else 4e-6
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=rounding, atol=rounding / 2)
    poisoned = gelu_tanh(torch.tensor([1.0, torch.nan, torch.inf]))
    assert poisoned.isnan().tolist() == [False, True, False]
    assert poisoned[2] == torch.inf


@pytest.mark.parametrize("width", [4, 40])
def test_the_number_of_threads_changes_nothing(width: int) -> None:
    q, k, v = heads(3, 50, 4, 2, width, torch.float32)
    first = first_visible(50, 11, None).expand(3, -1).contiguous()

    def results(threads: int) -> tuple[Tensor, ...]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            out, _ = attend(q, k, v, first, 0.3, 0.2, SEED)
            return drop(torch.ones(70_000), 0.2, SEED), out, *torch.autograd.grad(out.square().sum(), (q, k, v))
        finally:
            torch.set_num_threads(before)

    assert all(a.equal(b) for a, b in zip(results(1), results(3), strict=True))


@pytest.mark.filterwarnings("default")  # torch.compile warns of its own doings
def test_a_compiled_model_drops_the_same() -> None:
    config = ModelConfig(
        family="gpt_neo", vocab_size=50, context=40, layers=3, width=36, heads=3, windows=(None, 9), dropout=0.2
    )
    tokens = torch.randint(50, (4, 40), generator=torch.Generator().manual_seed(0))

    def gradient(compiled: bool) -> tuple[Tensor, ...]:
        model = Transformer(config).initialise(torch.Generator().manual_seed(1)).train()
        if compiled:
            for block in model.blocks:
                block.compile(backend="aot_eager")
        torch.manual_seed(5)
        return torch.autograd.grad(model.hidden(tokens).square().sum(), list(model.blocks.parameters()))

    for a, b in zip(gradient(False), gradient(True), strict=True):
        torch.testing.assert_close(a, b)


def test_wrong_tensors_are_refused_before_a_pointer_is_taken() -> None:
    q, k, v = heads(2, 8, 4, 2, 16, torch.float32)
    first = first_visible(8, None, None).expand(2, -1).contiguous()
    for wrong in (
        (q, k, v[:, :1], first),
        (q, k.bfloat16(), v, first),
        (q, k, v, first[:1]),
        (q, k, v, first.long()),
        (q[:, :3], k, v, first),
    ):
        with pytest.raises(AssertionError):
            attend(*wrong, 1.0, 0.0, None)


def test_the_math_of_exponentials_is_fp32s() -> None:
    """One key more than the one that counts: its weight is e^-x, down to where it vanishes."""
    x = torch.linspace(0, 100, 2000)
    q = torch.stack([torch.zeros(2000), x])[:, None, :, None].permute(2, 1, 0, 3).contiguous()  # [2000, 1, 2, 1]
    k = torch.tensor([-1.0, 0.0]).view(1, 1, 2, 1).expand(2000, 1, 2, 1)
    v = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1).expand(2000, 1, 2, 1)
    first = torch.zeros(2000, 2, dtype=torch.int32)
    weight = attend(q, k, v, first, 1.0, 0.0, None)[0][:, 1, 0, 0]
    expected = torch.sigmoid(-x.double())
    seen = expected > 1e-37
    torch.testing.assert_close(weight[seen].double(), expected[seen], rtol=1e-5, atol=0)
    assert (weight[~seen] < 1e-36).all()


def test_without_a_compiler_torch_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler, one that fails, one that writes rubbish, or one asked to be left alone."""
    monkeypatch.setenv("STORYLM_CACHE", str(tmp_path / "cache"))
    for name, does in (("fails", "exit 1"), ("rubbish", 'for last; do :; done; echo hello > "$last"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    build_library = build.library.__wrapped__  # what is kept of earlier calls left aside
    monkeypatch.setattr(build, "_log_missing", lambda why: said.append(why))
    said: list[str] = []
    assert build_library() is not None
    assert said == []
    for name in ("fails", "rubbish"):
        monkeypatch.setenv("CXX", str(tmp_path / name))
        assert build_library() is None, name
        assert said.pop().startswith(str(tmp_path / name))
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("STORYLM_NATIVE", "0")
    assert build_library() is None
    assert said == []  # it was asked for
    monkeypatch.delenv("STORYLM_NATIVE")
    monkeypatch.setenv("PATH", "")
    assert build_library() is None
    assert said == ["this system has no C++ compiler that storylm knows"]


def test_the_name_of_what_was_built_tells_sources_and_processor_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(build.__file__).parent
    names = {build._fingerprint("g++", "-march=native", folder), build._fingerprint("clang++", "-march=native", folder)}
    monkeypatch.setattr(build, "_processor", lambda: b"another")
    names.add(build._fingerprint("g++", "-march=native", folder))
    assert len(names) == 3


def test_dropout_without_kernels_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(family="gpt2", vocab_size=50, context=8, layers=1, width=32, heads=2, dropout=0.5)
    model = Transformer(config).initialise(torch.Generator().manual_seed(1)).train()
    tokens = torch.zeros(1, 8, dtype=torch.long)
    monkeypatch.setattr(native, "available", lambda device: False)
    torch.manual_seed(3)
    assert not model(tokens).equal(model(tokens))
    model.eval()
    assert model(tokens).equal(model(tokens))


def test_the_features_of_a_head_may_lie_apart() -> None:
    """As they do after a concatenation of tiny tensors, which may choose another order."""
    first_BT = torch.zeros(1, 2, dtype=torch.int32)
    apart = torch.randn(1, 2, 2, 2).as_strided((1, 2, 2, 2), (8, 1, 4, 2))
    together = apart.clone(memory_format=torch.contiguous_format)
    told = []
    for queries in (apart, together):
        queries.requires_grad_()
        out, _ = attend(queries, queries, queries, first_BT, 1.0, 0.0, None)
        out.square().sum().backward()
        told.append((out, queries.grad))
    assert torch.equal(told[0][0], told[1][0])
    assert torch.equal(told[0][1], told[1][1])

"""RMSNorm, rotation and SwiGLU in C++ against PyTorch's own in fp64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from storylm.config.model import ModelConfig
from storylm.model import native
from storylm.model.native.activation import silu_gated
from storylm.model.native.norm import rms_norm, turn_heads
from storylm.model.positions import rotate
from storylm.model.transformer import Transformer

pytestmark = pytest.mark.skipif(not native.available(torch.device("cpu")), reason="no C++ compiler here")

EPS = 1e-6


def assert_near(ours: Tensor, theirs: Tensor, rounding: float = 2e-5) -> None:
    """Of the largest: gradients are differences of larger numbers."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=rounding * max(1.0, float(theirs.abs().max())))


def doubled(*tensors: Tensor) -> list[Tensor]:
    return [x.detach().double().requires_grad_() for x in tensors]


@settings(max_examples=60, deadline=None)
@given(rows=st.sampled_from([1, 3, 64, 130, 500]), width=st.sampled_from([1, 6, 16, 20, 64, 100, 192]))
def test_norm_and_its_gradients_are_torchs(rows: int, width: int) -> None:
    torch.manual_seed(0)
    x, gain, dy = torch.randn(rows, width), torch.randn(width), torch.randn(rows, width)
    x.requires_grad_(), gain.requires_grad_()
    exact_x, exact_gain = doubled(x, gain)
    ours, exact = rms_norm(x, gain, EPS), F.rms_norm(exact_x, (width,), exact_gain, EPS)
    assert_near(ours, exact)
    back = torch.autograd.grad(ours, (x, gain), dy)
    for mine, theirs in zip(back, torch.autograd.grad(exact, (exact_x, exact_gain), dy.double()), strict=True):
        assert_near(mine, theirs, 1e-4)


@settings(max_examples=60, deadline=None)
@given(
    width=st.sampled_from([2, 6, 16, 48, 64, 128]),
    heads=st.sampled_from([1, 3]),
    layout=st.sampled_from(["half", "interleaved"]),
    own_places=st.booleans(),
    normed=st.booleans(),
    turned=st.booleans(),
)
def test_heads_are_normalised_and_rotated_as_torch_does(
    width: int, heads: int, layout: str, own_places: bool, normed: bool, turned: bool
) -> None:
    torch.manual_seed(0)
    x, dy = torch.randn(3, 17, heads, width, requires_grad=True), torch.randn(3, 17, heads, width)
    gain = torch.randn(width, requires_grad=True) if normed else None
    angles = torch.randn(3 if own_places else 1, 1, 17, width // 2)
    tables = (angles.cos(), angles.sin()) if turned else None
    given = [tensor for tensor in (x, gain) if tensor is not None]
    exact_given = doubled(*given)
    exact = exact_given[0].transpose(1, 2)
    if normed:
        exact = F.rms_norm(exact, (width,), exact_given[1], EPS)
    if turned:
        exact = rotate(exact, (angles.double().cos(), angles.double().sin()), layout)
    ours = turn_heads(x, gain, tables, EPS, layout == "interleaved")
    assert_near(ours.transpose(1, 2), exact)
    if normed or turned:
        back = torch.autograd.grad(ours, given, dy)
        exact_back = torch.autograd.grad(exact, exact_given, dy.double().transpose(1, 2))
        for mine, theirs in zip(back, exact_back, strict=True):
            assert_near(mine, theirs, 1e-4)


@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("size", [7, 5000, 70_001])
def test_swiglu_and_its_gradients_are_torchs(dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    gate, up, dy = (3 * torch.randn(3, size).to(dtype) for _ in range(3))
    gate.requires_grad_(), up.requires_grad_()
    exact_gate, exact_up = doubled(gate, up)
    ours, exact = silu_gated(gate, up), F.silu(exact_gate) * exact_up
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-6
    assert ours.dtype == dtype
    assert_near(ours, exact, rounding)
    back = torch.autograd.grad(ours, (gate, up), dy)
    for mine, theirs in zip(back, torch.autograd.grad(exact, (exact_gate, exact_up), dy.double()), strict=True):
        assert_near(mine, theirs, rounding)


@pytest.mark.parametrize("width", [48, 22])
def test_in_bf16_it_is_as_exact_as_bf16(width: int) -> None:
    torch.manual_seed(0)
    gain = torch.randn(width, requires_grad=True)
    angles = torch.randn(1, 1, 9, width // 2)
    heads = torch.randn(2, 9, 3, width).bfloat16().requires_grad_()
    ours = turn_heads(heads, gain, (angles.cos(), angles.sin()), EPS, False)
    assert ours.dtype == torch.bfloat16
    x, exact_gain = doubled(heads, gain)
    exact = rotate(
        F.rms_norm(x.transpose(1, 2), (width,), exact_gain, EPS), (angles.double().cos(), angles.double().sin()), "half"
    )
    assert_near(ours.transpose(1, 2), exact, 2**-8)
    dy = torch.randn(2, 9, 3, width).bfloat16()
    back = torch.autograd.grad(ours, (heads, gain), dy)
    exact_back = torch.autograd.grad(exact, (x, exact_gain), dy.double().transpose(1, 2))
    assert [x.dtype for x in back] == [torch.bfloat16, torch.float32]
    for mine, theirs in zip(back, exact_back, strict=True):
        assert_near(mine, theirs, 2**-7)


def test_under_autocast_a_norm_gives_what_the_next_product_wants() -> None:
    x, gain = torch.randn(5, 32, requires_grad=True), torch.randn(32, requires_grad=True)
    plain = rms_norm(x, gain, EPS)
    with torch.autocast("cpu", torch.bfloat16):
        half = rms_norm(x, gain, EPS)
    assert half.equal(plain.bfloat16())
    dx, dgain = torch.autograd.grad(half, (x, gain), torch.ones_like(half))
    exact_dx, exact_dgain = torch.autograd.grad(plain, (x, gain), torch.ones_like(plain))
    torch.testing.assert_close((dx, dgain), (exact_dx, exact_dgain))


def test_the_number_of_threads_changes_nothing() -> None:
    torch.manual_seed(0)
    x, gain = torch.randn(3000, 96, requires_grad=True), torch.randn(96, requires_grad=True)
    dy = torch.randn(3000, 96)
    heads, angles = x.view(3, 500, 2, 96), torch.randn(1, 1, 500, 48)

    def results(threads: int) -> tuple[Tensor, ...]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            out = rms_norm(x, gain, EPS)
            turned = turn_heads(heads, gain, (angles.cos(), angles.sin()), EPS, False)
            back = torch.autograd.grad(turned.square().sum(), (x, gain))
            return out, silu_gated(x, dy), turned, *back, *torch.autograd.grad(out, (x, gain), dy)
        finally:
            torch.set_num_threads(before)

    assert all(a.equal(b) for a, b in zip(results(1), results(3), strict=True))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("half", [False, True])
def test_a_model_with_kernels_is_the_model_without(family: str, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In weights so large that each part counts; nothing in it is exact to more than the precision's rounding."""
    config = ModelConfig(family=family, vocab_size=50, context=20, layers=2, width=36, heads=2, init_std=0.3)
    model = Transformer(config).initialise(torch.Generator().manual_seed(1))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, 1, 0.3, generator=torch.Generator().manual_seed(2))
    tokens = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(3))

    def results() -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(tokens).float()
        return logits, *torch.autograd.grad(logits.square().mean(), list(model.parameters()))

    with_kernels = results()
    monkeypatch.setattr(native, "available", lambda device: False)
    for ours, theirs in zip(with_kernels, results(), strict=True):
        assert float((ours - theirs).detach().norm() / theirs.detach().norm()) < (0.05 if half else 1e-4)


def test_wrong_tensors_are_refused_before_a_pointer_is_taken() -> None:
    x, gain, table = torch.ones(2, 5, 3, 8), torch.ones(8), torch.ones(1, 1, 5, 4)
    for wrong in (
        (x, torch.ones(7), None),
        (x, gain.double(), None),
        (x.double(), gain, None),
        (x, gain, (table[:, :, :4], table[:, :, :4])),
        (x, gain, (table, table[..., :3])),
        (x, gain, (table.expand(3, 1, 5, 4), table.expand(3, 1, 5, 4))),
    ):
        with pytest.raises(AssertionError):
            turn_heads(*wrong, EPS, False)
    for wrong_pair in (
        (torch.ones(3), torch.ones(4)),
        (torch.ones(3).half(), torch.ones(3).half()),
        (torch.ones(3).double(), torch.ones(3).double()),
        (torch.ones(3, device="meta"), torch.ones(3, device="meta")),
    ):
        with pytest.raises(AssertionError):
            silu_gated(*wrong_pair)
    with pytest.raises(AssertionError, match="not all on the CPU"):
        turn_heads(x, gain, (table.to("meta"), table.to("meta")), EPS, False)


def test_what_is_not_asked_for_is_not_given() -> None:
    """A gain that is frozen, numbers without a gradient, no gradients at all, no rows at all, rows of zeros."""
    x, gain = torch.randn(5, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    (dx,) = torch.autograd.grad(rms_norm(x, gain.detach(), EPS).sum(), x)
    (dgain,) = torch.autograd.grad(rms_norm(x.detach(), gain, EPS).sum(), gain)
    both = torch.autograd.grad(rms_norm(x, gain, EPS).sum(), (x, gain))
    assert (dx.equal(both[0]), dgain.equal(both[1])) == (True, True)
    with torch.no_grad():
        assert not rms_norm(x, gain, EPS).requires_grad
    with torch.inference_mode():
        assert rms_norm(torch.zeros(0, 8), gain, EPS).shape == (0, 8)
        assert rms_norm(torch.zeros(2, 8), gain, EPS).equal(torch.zeros(2, 8))
        assert rms_norm(torch.full((1, 8), torch.nan), gain, EPS).isnan().all()


def test_a_gradient_of_the_gradient_is_refused() -> None:
    x = torch.randn(3, 8, requires_grad=True)
    for y in (rms_norm(x, torch.ones(8), EPS), silu_gated(x, x)):
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            dx.sum().backward()

"""The chunked loss against the textbook one."""

import pytest
import torch
from torch.nn import functional as F

from storylm.model import loss
from storylm.model.loss import IGNORED, next_token_loss, token_nats


def example(vocabulary: int = 37, width: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(5, 7, width, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=generator, requires_grad=True)
    targets = torch.randint(vocabulary, (5, 7), generator=generator)
    targets[1, 3:] = IGNORED
    return hidden, weight, targets


def textbook(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = (hidden @ weight.T).flatten(0, 1)
    return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("rows_a_chunk", [1, 4, 35, 1000])
@pytest.mark.parametrize("vocabulary", [5, 37, 64, 131])
def test_value_and_gradients_equal_the_textbook_loss(
    monkeypatch: pytest.MonkeyPatch, kernels: str, rows_a_chunk: int, vocabulary: int
) -> None:
    monkeypatch.setattr(loss, "_rows_at_once", lambda *_: rows_a_chunk)
    hidden, weight, targets = example(vocabulary)
    nats, tokens = next_token_loss(hidden, weight, targets)
    expected = textbook(hidden, weight, targets)
    assert tokens == 31
    torch.testing.assert_close(nats, expected)
    # Divided like a mean, so that the incoming gradient is not 1.
    ours = torch.autograd.grad(nats / tokens, (hidden, weight))
    theirs = torch.autograd.grad(expected / tokens, (hidden, weight))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_per_token_nats_add_up_and_are_zero_where_ignored() -> None:
    hidden, weight, targets = example()
    nats = token_nats(hidden, weight, targets)
    assert nats.shape == targets.shape
    assert (nats[targets == IGNORED] == 0).all()
    torch.testing.assert_close(nats.sum(), textbook(hidden, weight, targets).detach())


def test_all_ignored_is_zero_with_zero_gradients(kernels: str) -> None:
    hidden, weight, targets = example()
    nats, tokens = next_token_loss(hidden, weight, torch.full_like(targets, IGNORED))
    assert nats == 0
    assert tokens == 0
    assert all((g == 0).all() for g in torch.autograd.grad(nats, (hidden, weight)))


def test_bf16_autocast_is_close_and_gradients_stay_fp32(kernels: str) -> None:
    hidden, weight, targets = example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nats, _ = next_token_loss(hidden, weight, targets)
    expected = textbook(hidden, weight, targets)
    assert abs(nats.item() / expected.item() - 1) < 0.01
    gradients = torch.autograd.grad(nats, (hidden, weight))
    assert all(g.dtype == torch.float32 for g in gradients)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.03, rtol=0.03)


def test_what_is_not_finite_does_not_get_lost(kernels: str) -> None:
    """A NaN, or logits beyond the range of floats, are seen in the loss and in the gradients of their row."""
    for poison in (float("nan"), float("inf")):
        hidden, weight, targets = example()
        with torch.no_grad():
            hidden[2, 3, 1] = poison
        nats, _ = next_token_loss(hidden, weight, targets)
        gradient, _ = torch.autograd.grad(nats, (hidden, weight))
        assert not nats.isfinite()
        assert not gradient[2, 3].isfinite().all()
        assert gradient[0].isfinite().all()


def test_large_logits_do_not_overflow(kernels: str) -> None:
    hidden, weight, targets = example()
    nats, _ = next_token_loss(1000 * hidden, weight, targets)
    torch.testing.assert_close(nats, textbook(1000 * hidden, weight, targets))


def test_never_holds_the_logits_of_a_batch(monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    """No tensor of rows x vocabulary is ever made; chunks of a few rows are."""
    monkeypatch.setattr(loss, "_rows_at_once", lambda *_: 4)
    hidden, weight, targets = example(width=3)  # weight.T has 3 rows
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] in (37, 64):
                largest = max(largest, result.shape[0])
            return result

    with Watch():
        next_token_loss(hidden, weight, targets)
    assert 0 < largest <= 4


def test_a_target_beyond_the_vocabulary_is_refused(kernels: str) -> None:
    hidden, weight, targets = example()
    targets[4, 6] = 37
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        next_token_loss(hidden, weight, targets)

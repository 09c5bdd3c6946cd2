"""Clipping, and updates that are done only where they are finite."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from optim.sharded import compare
from storylm.config.model import ModelConfig
from storylm.config.schema import OptimConfig
from storylm.model.transformer import Transformer
from storylm.optim import update
from storylm.optim.build import BUILDERS, build_optimizers

SHAPES = ((3, 5), (7,), (4, 2))


def with_gradients(scale: float) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return [*parameters, nn.Parameter(torch.zeros(2))]  # one that took no part


def gradients(parameters: list[nn.Parameter]) -> np.ndarray:
    return np.concatenate([each.grad.double().numpy().ravel() for each in parameters if each.grad is not None])


@given(st.floats(1e-3, 1e3), st.floats(1e-2, 1e2))
def test_clipped_to_the_norm_of_all_together(scale: float, largest: float) -> None:
    parameters = with_gradients(scale)
    before = gradients(parameters)
    norm = update.clip_gradients(parameters, largest)
    assert norm.shape == ()
    assert float(norm) == pytest.approx(np.linalg.norm(before), rel=1e-5)
    np.testing.assert_allclose(gradients(parameters), before * min(1, largest / np.linalg.norm(before)), rtol=1e-4)


def test_as_torch_clips() -> None:
    parameters, reference = with_gradients(9.0), with_gradients(9.0)
    assert torch.equal(update.clip_gradients(parameters, 0.7), nn.utils.clip_grad_norm_(reference, 0.7))
    assert np.array_equal(gradients(parameters), gradients(reference))


def test_small_gradients_and_mere_measuring_change_nothing() -> None:
    for largest in (1e9, None):
        parameters = with_gradients(9.0)
        before = gradients(parameters)
        assert float(update.clip_gradients(parameters, largest)) == pytest.approx(np.linalg.norm(before), rel=1e-6)
        assert np.array_equal(gradients(parameters), before)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_gradients_that_are_not_finite_stay_as_they_are(bad: float) -> None:
    parameters = with_gradients(9.0)
    parameters[1].grad[2] = bad  # type: ignore[index]
    before = gradients(parameters)
    assert not torch.isfinite(update.clip_gradients(parameters, 0.5))
    np.testing.assert_array_equal(gradients(parameters), before)


# A device that is no CPU decides without reading `finite`; on a CPU the same ways have to be forced.
WAYS = {"undone": update._step_or_undo, "masked": update._step_masked}
CASES = [(name, "undone") for name in BUILDERS] + [("adamw", "masked")]


@pytest.mark.parametrize(("optimizer", "way"), CASES)
@pytest.mark.parametrize("finite", ["01", "1101001", "00110"])
def test_what_is_thrown_away_leaves_no_trace(optimizer: str, way: str, finite: str) -> None:
    """Weights and state after each step are those of a plain `if`, bit for bit, from the first step on."""
    runs = [run(optimizer, finite, each) for each in (_step_if, WAYS[way])]
    for plain, other in zip(*runs, strict=True):
        for name in other:
            # Where nothing has been done yet there is no state; what is there is what it starts from.
            assert torch.equal(other[name], plain.get(name, torch.zeros_like(other[name]))), name
        assert plain.keys() <= other.keys()


def _step_if(optimizer: Optimizer, finite: Tensor) -> None:
    update.step_where([optimizer], finite)


def run(name: str, finite: str, step_where: Callable[[Optimizer, Tensor], None]) -> list[dict[str, Tensor]]:
    """Weights and state after each of the steps, of which those marked 0 have gradients that are not finite."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(family="llama", vocab_size=80, context=8, layers=1, width=64, heads=2))
    optimizers, found = build_optimizers(model, OptimConfig(optimizer=name)), []
    for flag in finite:
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape) if flag == "1" else torch.full(parameter.shape, math.nan)
        for optimizer in optimizers:
            step_where(optimizer, torch.tensor(flag == "1"))
        found.append({key: parameter.detach().clone() for key, parameter in model.named_parameters()})
        for number, optimizer in enumerate(optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                found[-1] |= {f"{number}/{index}/{key}": value.clone() for key, value in state.items()}
    assert all(tensor.isfinite().all() for tensor in found[-1].values())
    return found


@pytest.mark.slow
def test_sharded_over_two_processes_as_whole(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(compare, (tmp_path / "store",), nprocs=2)

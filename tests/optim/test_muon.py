"""Muon in stacks against torch's, matrix by matrix."""

import pytest
import torch
from torch import Tensor, nn

from storylm.optim.muon import Muon, orthogonal

SHAPES = [(16, 16), (16, 16), (48, 16), (16, 48), (16, 48), (8, 40)]


def trained(kind: type[torch.optim.Muon], nesterov: bool, steps: int = 4) -> tuple[list[nn.Parameter], list[Tensor]]:
    generator = torch.Generator().manual_seed(3)
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = kind(weights, lr=0.05, weight_decay=0.1, momentum=0.9, nesterov=nesterov)
    for step in range(steps):
        for number, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=generator) if number != step else None
        optimizer.step()
    return weights, [optimizer.state[weight]["momentum_buffer"] for weight in weights]


@pytest.mark.parametrize("nesterov", [True, False])
def test_it_does_what_torchs_does(nesterov: bool) -> None:
    ours, momenta = trained(Muon, nesterov)
    theirs, their_momenta = trained(torch.optim.Muon, nesterov)
    torch.testing.assert_close(momenta, their_momenta)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=4 * 0.05 * 2**-6)  # bf16's rounding of four updates


def test_its_state_is_torchs() -> None:
    weights = [nn.Parameter(torch.ones(4, 4))]
    weights[0].grad = torch.eye(4)
    ours, theirs = Muon(weights), torch.optim.Muon(weights)
    ours.step()
    theirs.load_state_dict(ours.state_dict())
    assert theirs.state_dict()["state"][0]["momentum_buffer"].equal(ours.state[weights[0]]["momentum_buffer"])


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    made = orthogonal(torch.randn(3, 20, 50).bfloat16(), (3.4445, -4.7750, 2.0315), 5, 1e-7)
    values = torch.linalg.svdvals(made.float())
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.4
    assert torch.equal(orthogonal(torch.zeros(1, 3, 3), (3.4445, -4.7750, 2.0315), 5, 1e-7), torch.zeros(1, 3, 3))


def test_a_closure_is_called() -> None:
    weight = nn.Parameter(torch.ones(2, 3))

    def closure() -> float:
        weight.grad = torch.ones(2, 3)
        return 7.0

    assert Muon([weight], lr=0.1).step(closure) == 7.0
    assert not weight.detach().equal(torch.ones(2, 3))

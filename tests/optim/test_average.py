"""The moving average of the weights."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from storylm.optim.average import WeightAverage


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.999]))
def test_equals_a_plain_loop(applied: list[bool], decay: float) -> None:
    random = np.random.default_rng(0)
    weights = [random.standard_normal((3, 5)), random.standard_normal(7)]
    parameters = [nn.Parameter(torch.tensor(weight, dtype=torch.float32)) for weight in weights]
    average = WeightAverage(parameters, decay)
    expected, updates = [weight.copy() for weight in weights], 0
    for good in applied:
        for parameter, weight in zip(parameters, weights, strict=True):
            weight += random.standard_normal(weight.shape)
            parameter.data.copy_(torch.tensor(weight))
        average.update(torch.tensor(good))
        if good:
            share = min(decay, (1 + updates) / (10 + updates))
            expected = [share * old + (1 - share) * new for old, new in zip(expected, weights, strict=True)]
            updates += 1
    for ours, theirs in zip(average.weights, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-5)
    assert int(average.updates) == updates


def test_begins_as_the_weights_and_shares_no_memory_with_them() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    average = WeightAverage([parameter], 0.9)
    parameter.data.zero_()
    assert torch.equal(average.weights[0], torch.ones(2, 2))
    assert not average.weights[0].requires_grad

"""Numbers as 8-bit codes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storylm.optim import codes


@pytest.mark.parametrize("signed", [True, False])
def test_levels_are_those_of_dynamic_tree_quantisation(signed: bool) -> None:
    levels = np.array(codes._dynamic_levels(signed))
    assert len(levels) == 256
    assert (np.diff(levels) > 0).all()
    assert levels[-1] == 1.0
    if signed:  # but for 1, which has no opposite
        np.testing.assert_allclose(levels[:127], -levels[128:255][::-1])
        # The largest seventh of the code is a line from 0.1 to 1, the smallest one number in the middle of a millionth.
        np.testing.assert_allclose(levels[-65:-1], 0.1 + 0.9 * (np.arange(64) + 0.5) / 64)
        assert levels[128] == pytest.approx(0.55e-6)
    else:
        np.testing.assert_allclose(levels[-129:-1], 0.1 + 0.9 * (np.arange(128) + 0.5) / 128)
        np.testing.assert_allclose(levels[:3], [0, 0.325e-6, 0.775e-6])


@given(st.integers(0, 2**31), st.sampled_from([1e-12, 1e-3, 1.0, 1e6]), st.booleans())
def test_a_number_becomes_one_of_the_two_levels_around_it(seed: int, scale: float, signed: bool) -> None:
    random = np.random.default_rng(seed)
    numbers = (random.standard_normal((3, 64)) * 10 ** random.uniform(-8, 0, (3, 64)) * scale).astype(np.float32)
    numbers[1, :32] = 0
    numbers = numbers if signed else np.abs(numbers)
    coded, scales = torch.zeros(3, 64, dtype=torch.uint8), torch.zeros(3, 2)
    codes.quantise(torch.tensor(numbers), coded, scales, signed)
    again = codes.dequantise(coded, scales, signed).numpy()
    largest = np.abs(numbers.reshape(3, 2, 32)).max(-1)
    assert np.array_equal(scales.numpy(), largest)
    levels = np.array(codes._dynamic_levels(signed))
    shares = numbers / np.where(largest, largest, 1).repeat(32, 1)
    nearest = np.abs(shares[..., None] - levels).min(-1)
    error = np.abs(again - numbers) / np.where(largest, largest, 1).repeat(32, 1)
    # Never further off than the nearest level by more than what bf16 rounds away, twice.
    assert (error <= nearest + 2 * np.abs(shares) / 256 + 1e-6).all()
    assert (again[1, :32] == 0).all()

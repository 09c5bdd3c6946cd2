"""Learning rates are pure functions; these are their shapes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.config.schema import OptimConfig
from storylm.optim.schedule import SHAPES, learning_rate_factor


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.775, 0.55, 0.1]),
        ("cosine", [1, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2, 0.55, 0.1]),
        ("wsd", [1, 1, 1, 0.1]),
    ],
)
def test_shapes_after_warmup(schedule: str, expected: list[float]) -> None:
    config = OptimConfig(schedule=schedule, warmup_steps=0, final_lr_ratio=0.1, decay_share=0.2)
    factors = [learning_rate_factor(config, 1000, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert factors == pytest.approx(expected)


def test_wsd_falls_on_a_straight_line_over_its_last_share() -> None:
    config = OptimConfig(schedule="wsd", warmup_steps=0, final_lr_ratio=0.0, decay_share=0.4)
    factors = [learning_rate_factor(config, 1, progress) for progress in (0.6, 0.7, 0.8, 0.9)]
    assert factors == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_warmup_by_steps_and_by_share() -> None:
    by_steps = OptimConfig(schedule="constant", warmup_steps=4)
    assert [learning_rate_factor(by_steps, step, 0.5) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    by_share = OptimConfig(schedule="constant", warmup_share=0.1)
    assert learning_rate_factor(by_share, 7, 0.05) == pytest.approx(0.5)
    assert learning_rate_factor(by_share, 0, 0.0) > 0


@given(
    st.sampled_from(sorted(SHAPES)),
    st.integers(0, 10**6),
    st.floats(-0.5, 1.5),
    st.floats(0, 1),
    st.floats(0.01, 1),
)
def test_always_between_zero_and_the_peak(
    schedule: str, step: int, progress: float, final: float, decay: float
) -> None:
    config = OptimConfig(schedule=schedule, warmup_steps=100, final_lr_ratio=final, decay_share=decay)
    assert 0.0 <= learning_rate_factor(config, step, progress) <= 1.0

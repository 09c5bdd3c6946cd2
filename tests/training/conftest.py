"""A run so small that a test can afford many of them, and a clock that goes when told to."""

import time
from collections.abc import Callable

import pytest

from storylm.config.load import resolve
from storylm.config.schema import RunConfig
from training.now import Now
from training.runs import SMALL


@pytest.fixture
def small() -> Callable[..., RunConfig]:
    """The settings of a run of twelve steps, with overrides."""
    return lambda *overrides: resolve(None, None, [*SMALL, *overrides]).config


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    """The time, `now.seconds`, which stands still unless changed."""
    now = Now()
    monkeypatch.setattr(time, "monotonic", now)
    return now

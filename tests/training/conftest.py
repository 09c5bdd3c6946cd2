"""A run so small that a test can afford many of them."""

from collections.abc import Callable

import pytest

from storylm.config.load import resolve
from storylm.config.schema import RunConfig
from training.runs import SMALL


@pytest.fixture
def small() -> Callable[..., RunConfig]:
    """The settings of a run of twelve steps, with overrides."""
    return lambda *overrides: resolve(None, None, [*SMALL, *overrides]).config

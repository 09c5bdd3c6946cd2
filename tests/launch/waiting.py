"""Waiting for what another process does."""

import time
from collections.abc import Callable

PATIENCE = 300.0  # seconds; machines are busy, and no test measures time


def wait_until(happened: Callable[[], bool]) -> None:
    """Return as soon as `happened()`; fail where it does not within `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)

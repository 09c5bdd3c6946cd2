"""A kill inside a save costs nothing; the same kills, of a script that saves in place, cost a lot."""

import random
from collections.abc import Callable
from pathlib import Path

from reliability.rows import SEED, sizes
from reliability.savers import found_in_place, found_safely, losses, save_in_place, save_safely


@sizes("save")
def test_save(count: int, tmp_path: Path, figures: Callable[..., None]) -> None:
    chance = random.Random(SEED)
    megabytes = 8 if count < 10 else 64  # of the model, and as much of the optimizer
    lost = losses(save_safely, found_safely, tmp_path / "safe", count, megabytes, chance)
    control = losses(save_in_place, found_in_place, tmp_path / "in place", count, megabytes, chance)
    assert lost == 0
    assert control >= 0.2 * count, "the kills do not hit saves: this test shows nothing"
    figures("save", count, megabytes=2 * megabytes, lost=lost, control_lost=control)

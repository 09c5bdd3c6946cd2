"""Any flipped bit and any truncation of a real checkpoint is found, told loudly, and answered by the one before."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from reliability.rows import SEED, sizes
from storylm.config.schema import RunConfig
from storylm.training.checkpoint import Checkpoints
from storylm.training.observers import build_observers
from storylm.training.run import train_run
from training.runs import At, interrupt, record_of


@sizes("rot")
def test_rot(
    count: int,
    two_epochs: RunConfig,
    undisturbed: dict,
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    chance = random.Random(SEED)
    folder = tmp_path / "run"
    stop = At(10, interrupt)
    assert train_run(two_epochs, folder, observers=[*build_observers(two_epochs, folder, 0), stop]).steps == 10
    checkpoints = Checkpoints(folder / "checkpoints", lambda target: None)
    before = checkpoints.latest()
    assert before is not None
    assert (before.folder.name, before.state.step) == ("last", 10)
    files = sorted(before.folder.iterdir())
    assert len(files) == 8
    detected = flips = 0
    for number in range(count):
        # The large files take most of the damage, as on a disk; the small ones some.
        path = chance.choices(files, [path.stat().st_size if number % 2 else 1 for path in files])[0]
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        if chance.random() < 0.8:
            flips += 1
            damaged = bytearray(whole)
            damaged[place] ^= 1 << chance.randrange(8)
        else:
            damaged = whole[:place]
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"DAMAGED CHECKPOINT: last: {path.name} .*Going on from previous, step 9"):
            loaded = checkpoints.latest()
        assert loaded is not None
        detected += loaded.folder.name == "previous" and loaded.state.step == 9
        if number < count - 1:
            path.write_bytes(whole)
    assert detected == count
    # The last damage stays: a run goes on from `previous` and ends as if nothing had happened.
    with pytest.warns(UserWarning, match="DAMAGED CHECKPOINT"):
        assert train_run(two_epochs, folder).steps == 23
    assert record_of(folder) == undisturbed
    figures("rot", count, flips=flips, cuts=count - flips, detected=detected)

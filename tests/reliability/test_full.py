"""A full disk ends a run with one clear line and costs nothing but the updates since the last checkpoint."""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from reliability.lives import Life
from reliability.newest import newest_intact
from reliability.rows import SEED, sizes
from reliability.victims import fill_disk, limit_files, train
from training.runs import record_of

AT = 5  # the update from which there is no room; the checkpoint of step 3 stands


def ends_clearly(life: Life, folder: Path) -> None:
    """With the exit code for the machine's fault, and one line that names the place and what to do."""
    assert life.end() == 4, life.output
    (line,) = [line for line in life.output.splitlines() if line.startswith("storylm: ")]
    assert str(folder) in line
    assert "run again" in line
    assert "Free some space" in line or "is the disk full?" in line
    assert "Traceback" not in life.output
    assert newest_intact(folder) == life.last("saved", 0) > 0


@sizes("full")
def test_full(count: int, config_file: Path, undisturbed: dict, tmp_path: Path, figures: Callable[..., None]) -> None:
    chance = random.Random(SEED)
    largest = len(undisturbed["optimizer"])
    for number in range(count):
        folder = tmp_path / str(number)
        no_more = partial(limit_files, chance.randrange(largest))
        ends_clearly(Life(train, config_file, folder, None, (AT, no_more)), folder)
        assert Life(train, config_file, folder).end() == 0
        assert record_of(folder) == undisturbed
    figures("full", count)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@sizes("tmpfs")
def test_tmpfs(
    count: int, config_file: Path, undisturbed: dict, small_disk: Path, figures: Callable[..., None]
) -> None:
    chance = random.Random(SEED)
    one_checkpoint = len(undisturbed["optimizer"]) + len(undisturbed["last"])
    for number in range(count):
        folder = small_disk / str(number)
        no_more = partial(fill_disk, small_disk / "ballast", chance.randrange(one_checkpoint))
        ends_clearly(Life(train, config_file, folder, None, (AT, no_more)), folder)
        (small_disk / "ballast").unlink()
        assert Life(train, config_file, folder).end() == 0
        assert record_of(folder) == undisturbed
        shutil.rmtree(folder)
    figures("tmpfs", count)

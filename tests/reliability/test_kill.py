"""A run that is killed again and again ends as if nothing had happened."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from reliability.lives import Life
from reliability.newest import newest_intact
from reliability.rows import SEED, sizes
from reliability.victims import Fate, train
from training.runs import record_of


@sizes("kill")
def test_kill(count: int, config_file: Path, undisturbed: dict, tmp_path: Path, figures: Callable[..., None]) -> None:
    chance = random.Random(SEED)
    kills = in_save = lost = runs = identical = 0
    while kills < count:
        folder, code, saved = tmp_path / str(runs), -1, 0
        runs += 1
        while code:
            # Half of the kills come at a file operation, of which saves consist, the rest at any instant.
            where = chance.choice(("operation", "operation", "update", "start")) if kills < count else None
            fate = Fate(signal.SIGKILL, operation=chance.randrange(150)) if where == "operation" else None
            life = Life(train, config_file, folder, fate)
            if where == "start":
                life.wait_for("born")
                time.sleep(chance.uniform(0, 1))
            if where == "update":
                life.wait_for("updated", chance.randrange(1, 10))
                time.sleep(chance.uniform(0, 0.05))
            if where in ("start", "update"):
                life.kill(signal.SIGKILL)
            code = life.end()
            assert code in (0, -signal.SIGKILL), life.output
            kills += code != 0
            saved = life.last("saved", saved)
            in_save += code != 0 and life.count("saving") > life.count("saved")
            lost += newest_intact(folder) < saved
        identical += record_of(folder) == undisturbed
    assert lost == 0
    assert identical == runs
    assert in_save > count // 10
    figures("kill", kills, in_save=in_save, lost=lost, runs=runs, identical=identical, logged=logged(undisturbed))


def logged(record: dict) -> int:
    return len(record["metrics"])

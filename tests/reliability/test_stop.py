"""SIGTERM and Ctrl-C, whenever they come: saved, gone within seconds, nothing lost; a second Ctrl-C ends at once."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

from reliability.lives import Life
from reliability.newest import newest_intact
from reliability.rows import SEED, sizes
from reliability.victims import Fate, insisted, train
from training.runs import record_of

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
MOST_CPU = 10.0  # seconds from the signal to the end


@sizes("stop")
def test_stop(count: int, config_file: Path, undisturbed: dict, tmp_path: Path, figures: Callable[..., None]) -> None:
    chance = random.Random(SEED)
    stops = runs = identical = lost = 0
    cpu = 0.0
    while stops < count:
        folder, step, code = tmp_path / str(runs), 0, -1
        runs += 1
        while code:
            number = (signal.SIGTERM, signal.SIGINT)[stops % 2]
            at_operation = {"operation": chance.randrange(150)}
            fate = Fate(number, **(at_operation if stops % 4 < 2 else {"cpu": chance.uniform(0.01, 0.5)}))
            life = Life(train, config_file, folder, fate if stops < count else None)
            code = life.end()
            step += life.count("updated")
            if code == 0:
                break  # was quicker than the signal
            stops += 1
            cpu = max(cpu, life.last("spent", 0) - life.last("struck", 0))  # type: ignore[arg-type]
            assert code == EXIT_CODES[number], life.output
            assert f"saved at step {step}; go on with: storylm train --resume {folder}" in life.output
            lost += step - newest_intact(folder)
        identical += record_of(folder) == undisturbed
    assert lost == 0
    assert identical == runs
    assert cpu < MOST_CPU  # of CPU time: a busy machine may take its time
    figures("stop", stops, cpu=cpu, lost=lost, runs=runs, identical=identical)


@sizes("insist")
def test_insist(count: int, config_file: Path, undisturbed: dict, tmp_path: Path, figures: Callable[..., None]) -> None:
    for number in range(count):
        folder = tmp_path / str(number)
        life = Life(insisted, config_file, folder, 5 + number)
        assert life.wait_for("waiting"), life.output
        life.kill(signal.SIGINT)
        assert life.end() == 130, life.output
        assert "Traceback" not in life.output
        saved = life.last("saved", 0)
        assert newest_intact(folder) == saved > 0
        assert Life(train, config_file, folder).end() == 0
        assert record_of(folder) == undisturbed
    figures("insist", count)

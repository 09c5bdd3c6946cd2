"""Several processes learn what one learns, and one of them that is killed costs nothing."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

from reliability.rows import SEED, sizes
from training.ranks import EVERY_STEP, LAYOUTS, WRAPPERS, Job, alone, launch, rows_read, same_run, script, torchrun
from training.runs import record_of

SAVED = (0, 4, 6, 8)  # every four steps, and after step 6 as the best so far


@sizes("ranks")
def test_ranks(count: int, tmp_path: Path, figures: Callable[..., None]) -> None:
    """The same rows, to the last token, and the same losses but for the order in which floats were added up."""
    same_rows, furthest = 0, 0.0
    runs = {layout: tmp_path / layout for layout in LAYOUTS}
    for layout, folder in runs.items():
        alone(LAYOUTS[layout], folder)
    for ranks in (2, 4):
        for wrapper in WRAPPERS:
            many = {layout: tmp_path / f"{layout}-{wrapper}-{ranks}" for layout in LAYOUTS}
            parallel = f"train.parallel={wrapper}"
            launch(ranks, [Job(str(folder), (*LAYOUTS[layout], parallel)) for layout, folder in many.items()])
            for layout, folder in many.items():
                same_rows += rows_read(folder, ranks) == rows_read(runs[layout])
                furthest = max(furthest, same_run(runs[layout], folder))
    assert same_rows == count
    figures("ranks", count, same_rows=same_rows, furthest=furthest)


@sizes("killed")
def test_killed(count: int, tmp_path: Path, figures: Callable[..., None]) -> None:
    """torchrun starts all of them again, and they go on from the last checkpoint."""
    chance, identical = random.Random(SEED), 0
    wrapped = {
        wrapper: (EVERY_STEP, "model.family=gpt2", "model.dropout=0.2", f"train.parallel={wrapper}")
        for wrapper in WRAPPERS[:count]
    }
    launch(2, [Job(str(tmp_path / wrapper), settings) for wrapper, settings in wrapped.items()])
    for number in range(count):
        wrapper, folder, step = WRAPPERS[number % len(WRAPPERS)], tmp_path / str(number), chance.randrange(12)
        rank = chance.randrange(2)
        killed = Job(str(folder), wrapped[wrapper], False, step, rank, signal.SIGKILL)
        process = torchrun(2, *script([killed]), restarts=1)
        printed, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, printed
        identical += record_of(folder) == record_of(tmp_path / wrapper)
        # What was learned since the last checkpoint is read twice, the step it was killed in once or twice.
        saved = max(at for at in SAVED if at <= step)
        times = [len(rows) // 4 for rows in rows_read(folder, 2)]
        assert times[:step] == [1] * saved + [2] * (step - saved), (step, times)
        own = Path(f"{folder}.rows-{rank}").read_text().splitlines()
        assert sum(line.startswith(f"[{step},") for line in own) == 2, "the one that was killed had begun this step"
    assert identical == count
    figures("killed", count, identical=identical)

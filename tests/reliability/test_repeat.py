"""The same settings and seed give the same run, to the bit, whatever process, hash seed and folder it runs in."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from reliability.lives import Life
from reliability.rows import sizes
from reliability.victims import train
from storylm.config.files import write_text
from storylm.config.load import apply_overrides, to_yaml
from storylm.config.schema import RunConfig
from training.runs import record_of

KINDS = {
    "dropout": (),
    "muon": ("optim.optimizer=muon", "train.precision=bf16"),
    "padded": ("data.layout=padded", "train.accumulation=2", "train.batch_size=16"),
    "compiled": ("train.compile=on", "train.precision=bf16", "train.epochs=1"),
}
THREADS = 2


def in_a_new_interpreter(config: Path, folder: Path, hash_seed: int) -> None:
    """`storylm train` as from a shell."""
    arguments = ["train", "--config", str(config), "--out", str(folder)]
    command = [sys.executable, "-c", "from storylm.cli import main; main()", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": str(THREADS)}
    folder.parent.mkdir(parents=True)
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@sizes("repeat")
def test_repeat(
    count: int,
    two_epochs: RunConfig,
    config_file: Path,
    undisturbed: dict,
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    if count == 2:  # this process, which did other things before, and a new one
        assert Life(train, config_file, tmp_path / "run").end() == 0
        assert record_of(tmp_path / "run") == undisturbed
    else:
        for kind, overrides in KINDS.items():
            config = tmp_path / f"{kind}.yaml"
            threads = f"train.threads={THREADS}"
            write_text(config, to_yaml(apply_overrides(two_epochs, [*overrides, threads])))
            runs = [tmp_path / kind / str(number) / "run" for number in range(count)]
            for number, folder in enumerate(runs):
                in_a_new_interpreter(config, folder, number)
            first, *others = map(record_of, runs)
            assert others == [first] * (count - 1), kind
    figures("repeat", count, kinds=len(KINDS), threads=THREADS)

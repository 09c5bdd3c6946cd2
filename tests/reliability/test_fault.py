"""Whatever operation on a file fails, once, the run says so or bears it, and the same command again puts it right."""

import errno
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from reliability.faults import FaultyDisk
from reliability.rows import ROWS
from storylm.config.errors import UserError
from storylm.config.load import resolve
from storylm.training.run import train_run
from training.runs import SMALL, record_of

SHORT = ("train.steps=4", "train.eval_every=2", "train.save_every=2", "train.sample_every=4", "train.log_every=1")
KINDS = {"write", "fsync", "replace", "open", "mkdir", "link", "unlink", "rmdir", "save_file"}


@pytest.mark.parametrize("every", [None, pytest.param(1, id="full", marks=pytest.mark.slow)])
def test_fault(every: int | None, stories: Path, tmp_path: Path, figures: Callable[..., None]) -> None:
    config = resolve(None, None, [*SMALL, *SHORT, "model.family=gpt2", "model.dropout=0.2", f"data.source={stories}"])
    counted = FaultyDisk(10**9, AssertionError)
    with counted.at_work():
        train_run(config.config, tmp_path / "whole")
    assert set(counted.calls) >= KINDS
    whole = record_of(tmp_path / "whole")

    failed = told = clear = borne = identical = 0
    raw: list[str] = []
    every = every or len(counted.calls) // ROWS["fault"].fast
    for number in count(every // 2, every):
        folder = tmp_path / "run"
        disk = FaultyDisk(number, lambda: OSError(errno.EIO, "Input/output error"))
        with disk.at_work():
            try:
                train_run(config.config, folder)
                borne += disk.failed
            except UserError as error:
                told += 1
                clear += "\n" not in str(error) and "Input/output error" in str(error)
            except OSError:
                raw.append(f"{number}: {disk.calls[number]}")
        if not disk.failed:
            break  # there are no more operations
        failed += 1
        train_run(config.config, folder)
        identical += record_of(folder) == whole
        shutil.rmtree(folder)
    assert identical == failed >= ROWS["fault"].fast
    assert not raw, "not said in words"
    assert told == clear > 0
    assert borne
    figures("fault", failed, told=told, borne=borne, identical=identical)

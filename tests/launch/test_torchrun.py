"""What the templates take for granted of torchrun, found out with the real one; bin/torchrun behaves like it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch.processes import descendants
from launch.waiting import PATIENCE, wait_until

TORCHRUN = Path(sys.executable).parent / "torchrun"
TRAINER = Path(__file__).parent / "trainer.py"


@contextmanager
def training(
    out: Path, save_seconds: float, **environment: str
) -> Iterator[tuple[subprocess.Popen, Callable[[], str]]]:
    """A torchrun whose one process has begun to train, and how to read what that one notes."""
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "1", "--max-restarts", "3", TRAINER, "any"]
    arguments = ["--out", out, "--steps", "100000", "--save-seconds", str(save_seconds)]
    process = subprocess.Popen([*command, *arguments], env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        wait_until((out / "log").exists)
        yield process, (out / "log").read_text
    finally:
        if process.poll() is None:
            for each in [*descendants(process.pid), process.pid]:
                os.kill(each, signal.SIGKILL)
            process.wait()


def test_sigterm_goes_to_its_processes_once_and_it_waits_for_them_to_save(tmp_path: Path) -> None:
    with training(tmp_path, save_seconds=1.0) as (torchrun, log):
        torchrun.send_signal(signal.SIGTERM)
        assert torchrun.wait(PATIENCE) == 1  # so the scripts cannot tell from it whether all was saved
        assert log().splitlines()[-1] == "saved after 1 x SIGTERM"


@pytest.mark.slow
def test_it_waits_for_as_long_as_the_templates_say(tmp_path: Path) -> None:
    with training(tmp_path, save_seconds=600.0, TORCH_ELASTIC_SHUTDOWN_TIMEOUT="1") as (torchrun, log):
        torchrun.send_signal(signal.SIGTERM)
        assert torchrun.wait(PATIENCE) == 1
        assert "saved" not in log()


@pytest.mark.slow
def test_sigusr1_would_end_it_and_leave_its_processes_alone(tmp_path: Path) -> None:
    with training(tmp_path, save_seconds=0.0) as (torchrun, log):
        workers = descendants(torchrun.pid)
        torchrun.send_signal(signal.SIGUSR1)
        assert torchrun.wait(PATIENCE) == -signal.SIGUSR1
        before = log()
        wait_until(lambda: log() != before)
        os.kill(workers[0], signal.SIGTERM)
        wait_until(lambda: re.search("saved", log()) is not None)

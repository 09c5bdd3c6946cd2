"""The ssh script: machines that are folders, first with the stand-in for torchrun, then with the real one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.waiting import PATIENCE, wait_until
from training.runs import SMALL, record_of

SCRIPT = Path(__file__).parents[2] / "examples" / "launch" / "ssh.sh"
BIN = Path(__file__).parent / "bin"
HOSTS = ("localhost", "127.0.0.1")  # both are this machine, so that the real torchruns find each other
RUN = Path("a run")


class Machines:
    """Two of them, with a folder `work` that holds a .venv; all that they share is what `--out` names."""

    def __init__(self, folder: Path, venv: Path):
        self.folder = folder
        self.work = folder / "work of 'mine'"  # the same path everywhere, as on a file system they share
        self.work.mkdir()
        (self.work / ".venv").symlink_to(venv)
        for host in HOSTS:
            (folder / host).mkdir()

    def start(self, *arguments: str, hosts: tuple[str, ...] = HOSTS, **environment: str) -> subprocess.Popen:
        """The script, in a process group of its own, as a terminal would have it."""
        given = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FAKE_HOSTS": str(self.folder),
            "NPROC": "1",
            "PORT": str(_free_port()),
        }
        return subprocess.Popen(
            [SCRIPT, *hosts, "--", "story-1m", *arguments],
            cwd=self.work,
            env={**os.environ, **given, **environment},
            start_new_session=True,
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """With the stand-ins for torchrun and training."""
    return Machines(tmp_path, venv=BIN.parent)


def log_of(machines: Machines) -> list[str]:
    path = machines.work / RUN / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_training_runs_on_every_machine_until_its_end(machines: Machines) -> None:
    here = machines.folder / "temporary"
    here.mkdir()
    assert machines.start("--out", str(RUN), "--steps", "3", TMPDIR=str(here)).wait(PATIENCE) == 0
    assert log_of(machines) == ["step 1", "step 2", "step 3", "finished"]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("number", "kill"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_ctrl_c_and_kill_save_everywhere_and_wait_for_it(machines: Machines, number: int, kill: Callable) -> None:
    script = machines.start("--out", str(RUN), "--steps", "100000", "--save-seconds", "0.5")
    wait_until(lambda: "step 5" in log_of(machines))
    kill(script.pid, number)  # a terminal sends Ctrl-C to the whole group
    assert script.wait(PATIENCE) == 1
    assert log_of(machines)[-1] == "saved after 1 x SIGTERM"


def test_where_one_machine_fails_the_others_save_and_end(machines: Machines) -> None:
    script = machines.start("--out", str(RUN), "--steps", "100000", hosts=("localhost", "user@nowhere"))
    assert script.wait(PATIENCE) == 255
    assert not log_of(machines) or log_of(machines)[-1] == "saved after 1 x SIGTERM"


@pytest.mark.parametrize("arguments", [[], ["gpu1", "gpu2"], ["gpu1", "--"], ["--", "story-1m"]])
def test_a_call_that_makes_no_sense_says_how(arguments: list[str]) -> None:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.slow
def test_two_real_torchruns_find_together_and_train_as_one_process_does(tmp_path: Path) -> None:
    machines = Machines(tmp_path, venv=Path(sys.prefix))
    arguments = [*SMALL, "data.context=64", "train.device=cpu", "optim.optimizer=adamw", "optim.lr=0.001"]
    assert machines.start(*arguments, "--out", "alone", hosts=HOSTS[:1]).wait(PATIENCE) == 0
    assert machines.start(*arguments, "--out", "together").wait(PATIENCE) == 0
    alone, together = (losses_of(machines.work / name) for name in ("alone", "together"))
    assert len(alone) == 6  # four of training, two of validation
    assert together == pytest.approx(alone, abs=1e-4)  # the samples are the same; how near, is tests/training's to say


def losses_of(folder: Path) -> list[float]:
    """Of training and of validation, in nats per token."""
    return [line.get("loss", line.get("nats_per_token")) for line in record_of(folder)["metrics"]]

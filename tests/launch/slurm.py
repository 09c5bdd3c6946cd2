"""A Slurm of one machine: `Slurm.submit` runs a batch script for real, and its time is up when the test says so."""

import os
import re
import signal
import subprocess
from pathlib import Path

BIN = Path(__file__).parent / "bin"


def directives(script: Path) -> dict[str, str]:
    """The `#SBATCH --name=value` lines of a script; the value is empty where there is none."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?", script.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)


class Slurm:
    """Where jobs are submitted from `folder`, with the programs in bin/ on PATH and storylm in `venv`."""

    def __init__(self, folder: Path, venv: Path):
        self.state = folder / "slurm"
        self.state.mkdir()
        self.folder, self.venv = folder, venv

    def submit(self, script: Path, *arguments: str, nodes: int = 2) -> "Job":
        """Start `script` as the first node of the job would; at once."""
        environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FAKE_SLURM": str(self.state),
            "VENV": str(self.venv),
            "SLURM_JOB_ID": "4242",
            "SLURM_JOB_NODELIST": ",".join(["localhost"] * nodes),
            "SLURM_NNODES": str(nodes),
            "SLURM_GPUS_ON_NODE": "1",
        }
        (self.state / "step").unlink(missing_ok=True)
        return Job(script, self.state, subprocess.Popen(["bash", script, *arguments], cwd=self.folder, env=environment))


class Job:
    """A running script."""

    def __init__(self, script: Path, state: Path, process: subprocess.Popen):
        self._directives, self._state, self.process = directives(script), state, process

    def time_is_nearly_up(self) -> None:
        """What Slurm does so many seconds before the limit, by the script's --signal=B:NAME@SECONDS."""
        name = re.fullmatch(r"B:(\w+)@\d+", self._directives["signal"])
        assert name, "the batch script alone (B:) is to be told"
        os.kill(self.process.pid, signal.Signals[f"SIG{name[1]}"])

    def wait(self, seconds: float) -> int:
        """The script's exit code."""
        return self.process.wait(seconds)

    @property
    def requeued(self) -> int:
        """How often any job of this Slurm was queued again."""
        path = self._state / "requeued"
        return len(path.read_text().splitlines()) if path.exists() else 0

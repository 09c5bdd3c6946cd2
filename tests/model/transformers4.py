"""transformers 4.57 beside the installed 5: put into a folder of its own, once, and run in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

# --no-deps: what they need further is here already, for transformers 5.
PACKAGES = ("transformers>=4.57,<5", "huggingface_hub>=0.34,<1", "tokenizers>=0.22,<=0.23.0")
HOME = Path(sys.prefix) / "transformers-4"


def installed() -> Path:
    """The folder to put on PYTHONPATH; the test is skipped where it is not there and cannot be fetched."""
    with FileLock(f"{HOME}.lock"):  # pytest-xdist's workers come at once
        if not HOME.is_dir():
            fresh = Path(f"{HOME}.part")  # a name apart, so that an interrupted installation does not count
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            options = ["--upgrade", "--retries", "1", "--timeout", "20", "--target", str(fresh)]
            done = subprocess.run([*command, *options, *PACKAGES], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"transformers 4.57 cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
            os.replace(fresh, HOME)
    return HOME


def run(folder: Path) -> None:
    """Let transformers 4.57 load each model folder in `folder`: see `transformers4_script.py` for what it leaves."""
    environment = {**os.environ, "PYTHONPATH": str(installed()), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("transformers4_script.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]

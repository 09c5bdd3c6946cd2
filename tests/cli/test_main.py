"""The command line as a whole: quick to answer, honest about mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storylm import cli
from storylm.cli import COMMANDS

HEAVY = ("torch", "transformers", "numpy", "pydantic.main", "tokenizers", "matplotlib", "pyarrow")


def storylm(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "storylm", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_help_imports_nothing_heavy_and_lists_every_command() -> None:
    code = f"""
import sys
from storylm.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "heavy: []" in done.stdout, done.stdout
    assert all(command.__name__ in done.stdout for command in COMMANDS)


def test_help_answers_fast() -> None:
    """In 0.3 s of processor time, the best of several, beyond what starting Python itself takes."""

    def best(*command: str) -> float:
        times = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            after = os.times()
            times.append(sum(after[2:4]) - sum(before[2:4]))  # of children, user and system
        return min(times)

    assert best("-m", "storylm", "--help") - best("-c", "pass") < 0.3


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_explains_itself(command) -> None:
    done = storylm(command.__name__, "--help")
    assert done.returncode == 0
    assert command.__doc__
    assert command.__doc__.split(".")[0].split(",")[0][:40].split()[0] in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "story-9m"], 2, ["story-9m", "did you mean"]),
        (
            ["train", "story-1m", "optim.warmup_step=3"],
            2,
            ["optim.warmup_step", "did you mean 'optim.warmup_steps'"],
        ),
        (["train", "story-1m", "optim.schedule=cosin"], 2, ["cosin", "cosine", "linear"]),
        (["train"], 2, ["preset"]),
        (["train", "story-1m", "--data", "nowhere.txt"], 3, ["nowhere.txt"]),
        (["train", "--resume", "no-such-run"], 5, ["no-such-run"]),
        (["evaluate", "no-such-model", "grammar"], 5, ["no-such-model"]),
        (["generate", "no-such-model", "--prompt", "Once"], 5, ["no-such-model"]),
        (["train", "story-1m", "train.device=cuda:7"], 4, ["cuda"]),
        (["generate", "~nosuchuser/x"], 5, ["nosuchuser"]),
        (["nonsense"], 2, ["nonsense"]),
    ],
)
def test_mistakes_get_one_clear_line_and_their_exit_code(arguments, code, words, tmp_path) -> None:
    done = storylm(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_what_the_system_refuses_gets_one_line_too(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "missing"
    monkeypatch.setattr(cli, "app", path.read_text)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 4
    assert capsys.readouterr().err == f"storylm: {path}: No such file or directory\n"


@pytest.mark.parametrize("command", ["train", "config", "plan"])
def test_shell_completion_knows_the_presets(command: str) -> None:
    program = str(Path(sys.executable).with_name("storylm"))
    asked = {"_STORYLM_COMPLETE": "complete_bash", "COMP_WORDS": f"storylm {command} nano", "COMP_CWORD": "2"}
    done = subprocess.run([program], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == ["nano-22m"]


def test_version_and_module_entry() -> None:
    from storylm import __version__

    assert storylm("--version").stdout.strip() == __version__


@pytest.mark.parametrize(("typed", "offered"), [("tr", {"train"}), ("co", {"config", "compare", "convert"})])
def test_shell_completion_works(typed: str, offered: set[str]) -> None:
    """What the script that `--install-completion` installs in bash asks, and the script itself."""
    program = str(Path(sys.executable).with_name("storylm"))

    def ask(what: str) -> str:
        asked = {"_STORYLM_COMPLETE": what, "COMP_WORDS": f"storylm {typed}", "COMP_CWORD": "1"}
        return subprocess.run([program], env={**os.environ, **asked}, capture_output=True, text=True).stdout

    assert set(ask("complete_bash").split()) == offered
    assert "_storylm_completion" in ask("source_bash")

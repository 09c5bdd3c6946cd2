"""The command line as a whole: quick to answer, honest about mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storylm import cli
from storylm.cli import COMMANDS, main

# All that the command line itself needs: typer, and what typer brings.
LIGHT = {"annotated_doc", "attr", "click", "markdown_it", "mdurl", "pygments", "rich", "shellingham", "typer"}


def storylm(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "storylm", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_help_imports_nothing_heavy_and_lists_every_command() -> None:
    """So that it answers at once: neither torch nor anything else that commands need for their work."""
    code = """
import sys
before = set(sys.modules)
from storylm.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
imported = {name.split(".")[0] for name in set(sys.modules) - before}
print("imported:", *sorted(imported - sys.stdlib_module_names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    told, _, imported = done.stdout.rpartition("imported:")
    assert "storylm" in imported, done.stderr
    assert set(imported.split()) <= {"storylm", *LIGHT}
    assert all(command.__name__ in told for command in COMMANDS)


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


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A working folder with an empty corpus, prepared stories of which one byte has changed, and a small model."""
    from storylm.config.model import ModelConfig
    from storylm.config.schema import CleaningConfig
    from storylm.data.prepare import prepare
    from storylm.model.store import save
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer

    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    tokenizer = Tokenizer.load("bytes")
    prepare("grammar?stories=20&validation=2", tokenizer, Path("damaged"), CleaningConfig(), workers=1)
    shard = next(Path("damaged/train").glob("*.tokens"))
    shard.write_bytes(shard.read_bytes()[:-9] + b"!" + shard.read_bytes()[-8:])
    config = ModelConfig(family="llama", vocab_size=300, context=16, layers=1, width=8, heads=2)
    save(Transformer(config), tokenizer, Path("model"))
    save(Transformer(config), None, Path("wordless"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("train story-1m --data empty.txt", 3, "empty.txt is empty"),
        ("train story-1m --data damaged", 3, "is damaged"),
        ("train story-1m --tokenizer bytes model.vocab_size=99", 2, "has 257 tokens but model.vocab_size=99"),
        ("generate model --prompt once-upon-a-time-there-was", 2, "prompt is 27 tokens but the model's context is 16"),
        ("generate wordless --prompt once", 5, "has no tokenizer"),
        ("evaluate model missing.txt", 3, "missing.txt"),
        ("evaluate damaged empty.txt", 3, "empty"),
        ("convert empty.txt out --tokenizer bytes", 5, "empty.txt"),
        ("export missing --format hf --out out", 5, "there is no model folder missing"),
        ("export model --format ggml --out out", 2, "choose one of hf, gguf, llama2c, onnx, int8"),
        ("export model --format hf --out damaged", 2, "which exporting there would delete: name a new folder"),
        ("push model stories", 2, "give OWNER/NAME"),
    ],
)
def test_bad_input_gets_one_line_its_exit_code_and_loses_nothing(arguments, code, words, place, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["storylm", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("storylm: ")]
    assert ended.value.code == code, errors
    assert len(errors) == 1
    assert words in errors[0]
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before

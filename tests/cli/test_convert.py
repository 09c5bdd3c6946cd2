"""`storylm convert` from the outside."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import storylm
from storylm.cli.convert import convert
from storylm.config.errors import CheckpointError, UsageError

app = typer.Typer()
app.command()(convert)


@pytest.fixture
def model(shared: Path) -> Path:
    return shared / "reference" / "stories260K" / "stories260K.bin"


def test_converts_checks_and_says_what_next(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(model), str(out), "--tokenizer", str(model.parent / "tok512.model")]
    for _ in range(2):  # the second replaces the first
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "260,032 parameters" in result.output
        assert f"storylm generate {out}" in result.output
    loaded, tokenizer = storylm.load(out)
    assert loaded.config.vocab_size == 512
    assert tokenizer is not None
    assert tokenizer.vocab_size == 512


def test_without_a_tokenizer_it_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(model), str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "--tokenizer" in result.output
    assert storylm.load(tmp_path / "out")[1] is None


def test_leaves_a_folder_of_other_things_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        convert(model, tmp_path, None)
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_a_tokenizer_that_is_too_large(model: Path, shared: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="50257 tokens but the model only 512"):
        convert(model, tmp_path / "out", str(shared / "reference" / "gpt2"))
    assert not (tmp_path / "out").exists()


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(CheckpointError, match="header makes no sense"):
        convert(tmp_path / "model.bin", tmp_path / "out", None)


def test_the_home_folder_of_no_one_is_a_name_like_any_other(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    convert(model, Path("~nosuchuser/x"), None)
    assert (tmp_path / "~nosuchuser" / "x" / "config.json").is_file()

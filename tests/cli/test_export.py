"""`storylm export` and `storylm push` from the outside."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import storylm
from export.conftest import config
from model.model_zoo import random_model
from storylm.cli import app
from storylm.config.errors import UsageError
from storylm.text.tokenizer import Tokenizer

pytest.importorskip("gguf")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    settings = config("llama", vocab_size=257, norm_eps=1e-5, head_dim=32, heads=3)
    storylm.save(random_model(settings), Tokenizer.load("bytes"), tmp_path / "model")
    return tmp_path / "model"


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("format", "files", "words"),
    [
        ("hf", ["model.safetensors", "README.md"], ["vllm serve {out}", "storylm push {out} OWNER/NAME"]),
        ("gguf", ["model-q8_0.gguf", "Modelfile"], ["llama-completion -m {out}/model-q8_0.gguf", "ollama create"]),
        ("llama2c", ["model.bin"], ["note   no tokenizer.bin is written", "a program of your own"]),
        ("onnx", ["onnx/model.onnx"], ["pipeline('text-generation', '{out}'", "('<|endoftext|>Once upon a time')"]),
        ("int8", ["model.int8.safetensors"], ['storylm generate {out} --prompt "Once upon a time"']),
    ],
)
def test_each_format_says_what_was_written_and_what_next(
    format: str, files: list[str], words: list[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        result = run("export", model, "--format", format, "--out", out)
        assert result.exit_code == 0, result.output
    for name in files:
        assert (out / name).is_file()
        assert name in result.output
    for line in words:
        assert line.format(out=out) in result.output
    assert "logits differ by at most" in result.output
    assert "of tokens have the same likeliest next one" in result.output


def test_what_int8_says_next_works(model: Path, tmp_path: Path) -> None:
    run("export", model, "--format", "int8", "--out", tmp_path / "small")
    told = run("generate", tmp_path / "small", "--prompt", "Once", "--max-new-tokens", 3)
    assert told.exit_code == 0
    assert told.output.startswith("Once")


def test_a_warning_for_vllm(model: Path, tmp_path: Path) -> None:
    result = run("export", model, "--format", "hf", "--out", tmp_path / "out")
    assert result.output.startswith("note   vLLM wants a vocabulary that is a multiple of 64, not 257")


def test_another_tokenizer_goes_along(model: Path, tmp_path: Path) -> None:
    storylm.save(storylm.load(model)[0], None, tmp_path / "wordless")
    refused = run("export", tmp_path / "wordless", "--format", "gguf", "--out", tmp_path / "out")
    assert isinstance(refused.exception, UsageError)
    result = run("export", tmp_path / "wordless", "--format", "gguf", "--out", tmp_path / "out", "--tokenizer", "bytes")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("out", ["model", "."])
def test_the_model_itself_is_not_written_over(out: str, model: Path) -> None:
    before = {path: path.read_bytes() for path in model.iterdir()}
    refused = run("export", model, "--format", "hf", "--precision", "bf16", "--out", model.parent / out)
    assert isinstance(refused.exception, UsageError)
    assert "where the model itself is" in str(refused.exception)
    assert {path: path.read_bytes() for path in model.iterdir()} == before


def test_what_cannot_be_is_told_with_what_can(tmp_path: Path) -> None:
    settings = config("gpt_neo", vocab_size=257)
    storylm.save(random_model(settings), Tokenizer.load("bytes"), tmp_path / "model")
    for format in ("gguf", "llama2c"):
        refused = run("export", tmp_path / "model", "--format", format, "--out", tmp_path / "out")
        assert isinstance(refused.exception, UsageError)
        assert "gpt_neo" in str(refused.exception)
        assert "onnx" in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_push_prints_the_address(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def push(folder: Path, name: str, **options: Any) -> str:
        asked.append((folder, name, options))
        return f"https://huggingface.co/{name}"

    monkeypatch.setattr("storylm.export.hub.push", push)
    result = run("push", model, "someone/stories", "--license", "mit")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("https://huggingface.co/someone/stories\nnext   storylm generate someone/stories")
    assert "only you" in result.output
    assert "only you" not in run("push", model, "someone/stories", "--public").output
    assert asked == [
        (model, "someone/stories", {"public": False, "license": "mit", "figures": None}),
        (model, "someone/stories", {"public": True, "license": None, "figures": None}),
    ]


def test_a_format_that_there_is_not_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for words, message in (
        (("--format", "nope"), "format 'nope' is not known"),
        (("--format", "gguf", "--precision", "f8"), "gguf has no precision 'f8'"),
    ):
        refused = run("export", tmp_path / "nowhere", *words, "--out", tmp_path / "out")
        assert isinstance(refused.exception, UsageError)
        assert message in str(refused.exception)

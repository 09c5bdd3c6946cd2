"""`storylm compare` from the outside."""

import json

import pytest
import torch

from cli.telling import call, diverged_model, small_model
from storylm.cli.compare import compare
from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.likelihood import evaluate
from storylm.generation.engine import generate
from storylm.model.store import load, save
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

DATA = "grammar?validation=3"


@pytest.fixture(scope="module")
def models(tmp_path_factory, monkeypatch_module) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    monkeypatch_module.chdir(folder)  # short names fit a column
    small_model(folder / "first", 1), small_model(folder / "second", 2)
    return ["first", "second"]


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def flat(text: str) -> str:
    """Text without what rich puts between and around words."""
    return "".join(character for character in text if character.isalnum() or character in ".,/")


def test_side_by_side_with_every_models_own_figures(models):
    result = call(
        compare,
        *models,
        "-p",
        "Once",
        "--max-new-tokens",
        "12",
        "--top-k",
        "30",
        "--data",
        DATA,
        env={"COLUMNS": "120"},
    )
    lines = result.stdout.splitlines()
    head = next(line for line in lines if "first" in line)
    assert head.index("second") - head.index("first") >= 36
    for name in models:
        model, tokenizer = load(name)
        assert tokenizer is not None
        judged = evaluate(model, tokenizer, Corpus(DATA))
        assert f"{judged.bits_per_byte:.4f} bits per byte" in result.stdout
        assert f"{sum(weights.numel() for weights in model.parameters()):,} parameters" in result.stdout
        assert judged.stories == 3
    assert result.stdout.count("tokens/s") == 2
    assert result.stdout.count("95 %: ") == 2


def test_one_after_another_where_columns_would_be_narrow(models):
    arguments = [*models, "-p", "Once", "-p", "A [bold]cat[/]", "--max-new-tokens", "12"]
    result = call(compare, *arguments, env={"COLUMNS": "60"})
    lines = result.stdout.splitlines()
    headings = [number for number, line in enumerate(lines) if "──" in line]
    assert [lines[number].strip("─ ") for number in headings] == models
    for name in models:
        for prompt in ("Once", "A [bold]cat[/]"):
            (story,) = generate(*load(name), prompt, max_new_tokens=12)
            assert flat(story) in flat(result.stdout)
    assert "bits per byte" not in result.stdout


def test_mistakes_come_before_any_story(models):
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        call(compare, "no-such-model", "--data", "nowhere.txt")
    with pytest.raises(CheckpointError, match="no-such-model"):
        call(compare, models[0], "no-such-model")
    with pytest.raises(UsageError, match="about --data"):
        call(compare, *models, "--stride", "8")
    with pytest.raises(UsageError, match="say --output"):
        call(compare, *models, "--data", DATA, "--per-story")


@pytest.fixture
def _no_telling(monkeypatch):
    def told(*arguments, **settings):
        raise AssertionError("told before it was clear that there is something to compare")

    monkeypatch.setattr("storylm.generation.engine.tell", told)


@pytest.mark.usefixtures("_no_telling")
def test_what_cannot_be_compared_is_known_before_anything_is_told(models, narrow, tmp_path):
    (tmp_path / "long.txt").write_text("x" * 99)
    with pytest.raises(
        UsageError, match=r"long.txt has no story of which first and .*narrow see the same: pass --stride 8"
    ):
        call(compare, models[0], narrow, "--data", str(tmp_path / "long.txt"))
    with pytest.raises(UsageError, match=r"--stride 17 is not allowed: it is from 1 to the context of .*narrow, 16"):
        call(compare, models[0], narrow, "--data", str(tmp_path / "long.txt"), "--stride", "17")
    with pytest.raises(CheckpointError, match="no-such-model"):
        call(compare, models[0], "no-such-model", "--data", DATA)


@pytest.fixture
def narrow(tmp_path) -> str:
    """A model with a context of 16."""
    config = load("first")[0].config.model_copy(update={"context": 16})
    save(Transformer(config).initialise(torch.Generator().manual_seed(0)), Tokenizer.load("bytes"), tmp_path / "narrow")
    return str(tmp_path / "narrow")


def test_with_a_stride_all_of_a_long_story_is_compared(models, narrow, tmp_path):
    for name, story in {"train.txt": "x" * 99, "valid.txt": "y" * 88}.items():
        (tmp_path / name).write_text(story)
    out = tmp_path / "compared.json"
    arguments = ["--data", str(tmp_path), "--split", "all", "--stride", "8", "--max-new-tokens", "3", "--per-story"]
    call(compare, models[0], narrow, *arguments, "--output", str(out))
    found = json.loads(out.read_text())
    assert found["stride"] == 8
    assert found["comparisons"][0]["stories"] == 2
    for row in found["models"]:
        assert row["per_story"]["bytes"] == [99, 88]
        assert [split["bytes"] for split in row["splits"].values()] == [99, 88]


def test_models_are_compared_on_the_same_stories(models, tmp_path):
    out = tmp_path / "compared.json"
    arguments = ["-p", "Once", "--max-new-tokens", "5", "--data", "grammar?validation=30", "--output", str(out)]
    result = call(compare, *models, models[0], *arguments, env={"COLUMNS": "200"})
    found = json.loads(out.read_text())
    assert [row["model"] for row in found["models"]] == [*models, models[0]]
    other, same = found["comparisons"]
    figures = [row["metrics"][0]["value"] for row in found["models"]]
    assert other["value"] == pytest.approx(figures[1] - figures[0], abs=0.05)  # of stories that both see whole
    assert (same["value"], same["p_value"], same["interval"]) == (0, 1, [0, 0])
    assert (other["against"], other["stories"]) == ("first", 30)
    assert other["interval"][0] < other["value"] < other["interval"][1]
    assert f"second - first: {other['value']:+.4f} bits per byte" in result.stdout
    assert result.stdout.count("p = ") == 2


def test_a_model_that_diverged_is_not_compared(models, tmp_path):
    with pytest.raises(CheckpointError, match="not numbers"):
        call(compare, models[0], diverged_model(tmp_path / "diverged"), "--data", DATA, "--max-new-tokens", "3")

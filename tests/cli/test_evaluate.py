"""`storylm evaluate` from the outside."""

import json

import pytest

from cli.telling import call, small_model
from storylm.cli.evaluate import evaluate
from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.evaluation import likelihood
from storylm.model.store import load

STORIES = ["Once upon a time.", "É. " * 30, "The cat sat."]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def data(tmp_path) -> str:
    lines = [json.dumps({"text": story}) for story in STORIES]
    (tmp_path / "stories.jsonl").write_text("\n".join([*lines, "{nonsense", '{"text": ""}']))
    return str(tmp_path / "stories.jsonl")


@pytest.mark.parametrize("stride", [None, 10])
def test_prints_and_writes_the_figures(model, data, tmp_path, stride):
    out = tmp_path / "new" / "figures.json"
    result = call(evaluate, model, data, "--output", str(out), *([] if stride is None else ["--stride", str(stride)]))
    expected = likelihood.evaluate(*load(model), STORIES, stride=stride)
    written = json.loads(out.read_text())
    assert written["bits_per_byte"] == pytest.approx(expected.bits_per_byte)
    assert (written["model"], written["data"], written["split"], written["context"]) == (model, data, "all", 64)
    assert written["unreadable"] == {"malformed JSON": 1, "empty story": 1}
    assert "given only the start token" in written["convention"]
    rows = dict(line.rsplit(None, 1) for line in result.stdout.splitlines()[:8])
    assert {name.strip(): value for name, value in rows.items()} == {
        "bits per byte": f"{expected.bits_per_byte:.4f}",
        "nats per token": f"{expected.nats_per_token:.4f}",
        "perplexity": f"{expected.perplexity:,.3f}",
        "nats per end token": f"{expected.special_nats / expected.special_tokens:.4f}",
        "stories": "3",
        "tokens": str(expected.tokens),
        "bytes": str(expected.bytes),
        "truncated stories": "1",
    }
    said = " ".join(result.stdout.split())
    assert "the end token is left out" in said
    assert ("windows 10 tokens apart" if stride else "the first 64 tokens: with --stride 32") in said
    assert "unreadable: 1 x malformed JSON" in result.stderr
    assert "tokens/s" in result.stderr


def test_splits_and_the_first_so_many(model, tmp_path):
    for name, stories in {"train.txt": STORIES, "valid.txt": STORIES[:1]}.items():
        (tmp_path / name).write_text("\n<|endoftext|>\n".join(stories))

    def counted(*options: str) -> tuple[str, int]:
        call(evaluate, model, str(tmp_path), "--output", str(tmp_path / "figures.JSON"), *options)
        written = json.loads((tmp_path / "figures.JSON").read_text())
        (tmp_path / "figures.JSON").unlink()
        return written["split"], written["stories"]

    assert counted() == ("validation", 1)
    assert counted("--split", "train") == ("train", 3)
    assert counted("--split", "all") == ("all", 4)
    assert counted("--split", "all", "--max-stories", "2", "--batch-size", "1") == ("all", 2)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["nowhere.txt"], DataError, r"nowhere\.txt"),
        (["grammar", "--split", "valid"], DataError, "has no valid split, only train and validation"),
        (["grammar", "--max-stories", "0"], UsageError, "max_stories=0"),
        (["grammar", "--stride", "65"], UsageError, "stride=65"),
        (["grammar", "--device", "gpu"], UsageError, "gpu"),
        (["nowhere.txt", "--output", "."], UsageError, "is a folder"),
        (["nowhere.txt", "--output", f"{__file__}/figures.json"], UsageError, "cannot be written"),
    ],
)
def test_mistakes(model, arguments, error, words):
    with pytest.raises(error, match=words):
        call(evaluate, model, *arguments)


def test_a_model_that_is_not_there_and_one_without_a_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match="no-such-model"):
        call(evaluate, "no-such-model", "grammar")
    bare = small_model(tmp_path / "bare", tokenizer=False)
    with pytest.raises(CheckpointError, match="--tokenizer"):
        call(evaluate, bare, "grammar?validation=2")
    assert call(evaluate, bare, "grammar?validation=2", "--tokenizer", "bytes").exit_code == 0

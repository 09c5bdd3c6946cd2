"""`storylm evaluate` from the outside."""

import json

import pytest

from cli.telling import call, diverged_model, small_model
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


def judged(tmp_path, *arguments: str) -> dict:
    out = tmp_path / "figures.json"
    result = call(evaluate, *arguments, "--output", str(out), "--json")
    written = json.loads(out.read_text())
    assert json.loads(result.stdout) == written  # printed and written alike
    return written


ROW = {"name", "value", "interval", "direction", "reference"}


def test_every_metric_has_the_same_five_keys(model, data, tmp_path):
    found = judged(tmp_path, model, data)
    assert [row["name"] for row in found["metrics"]] == ["bits_per_byte", "nats_per_token", "perplexity"]
    assert all(set(row) == ROW for row in found["metrics"])
    first = found["metrics"][0]
    assert first["value"] == found["bits_per_byte"]
    assert first["interval"][0] <= first["value"] <= first["interval"][1]
    more = "grammar?validation=20"
    assert judged(tmp_path, model, more)["metrics"] != judged(tmp_path, model, more, "--seed", "1")["metrics"]


def test_details(model, data, tmp_path):
    found = judged(tmp_path, model, data, "--details")
    parts = found["details"]["parts"]
    assert {kind: sum(part["bytes"] for part in parts[kind].values()) for kind in parts} == dict.fromkeys(
        parts, found["bytes"]
    )
    assert sum(one["tokens"] for one in found["details"]["calibration"]["bins"]) == found["tokens"]
    shown = call(evaluate, model, data, "--details").stdout
    assert "rare words" in shown
    assert "expected error" in shown


def test_suites_need_no_data(model, tmp_path):
    found = judged(tmp_path, model, "--suites", "facts, instruct", "--max-new-tokens", "8")
    assert {row["name"] for row in found["metrics"]} == {
        *(f"facts_{kind}" for kind in ("accuracy", "accuracy_per_token", "accuracy_by_contrast", "told")),
        *(f"instruct_{kind}" for kind in ("word", "sentence", "dialogue", "moral")),
    }
    assert "bits_per_byte" not in found
    assert found["metrics"][0]["reference"] == 0.25
    assert found["max_new_tokens"] == 8
    answers = found["suites"]["facts"]
    right = [answer["nats_per_byte"].index(min(answer["nats_per_byte"])) == answer["right"] for answer in answers]
    assert found["metrics"][0]["value"] == sum(right) / len(right)
    assert set(found["suites"]) == {"facts", "instruct"}
    shown = call(evaluate, model, "--suites", "facts").stdout
    assert "chance" in shown


@pytest.fixture
def real(tmp_path) -> str:
    path = tmp_path / "real.txt"
    texts = [f"Tom had {n} cats. One was red. He liked it very much. They all ran home." for n in range(8)]
    path.write_text("\n<|endoftext|>\n".join(texts))
    return str(path)


@pytest.fixture
def _eval():
    for package in ("sacrebleu", "rouge_score", "harper"):
        pytest.importorskip(package)


@pytest.mark.usefixtures("_eval")
def test_stories_are_told_from_beginnings_and_judged(model, real, tmp_path):
    arguments = [model, real, "--stories", "3", "--train", real, "--max-new-tokens", "12", "--eyes", model]
    found = judged(tmp_path, *arguments)
    assert [story["prompt"] for story in found["told"]] == [f"Tom had {n} cats. One was red." for n in range(3)]
    named = {row["name"]: row for row in found["metrics"]}
    assert {"bits_per_byte", "grammar_lints", "bleu", "rouge_l", "mauve", "train_13_grams", "ended_properly"} < set(
        named
    )
    assert all(story["cut"] for story in found["told"])
    assert found["stories"] == 8  # those of DATA, that bits per byte are of
    assert (named["reached_limit"]["value"], named["reached_limit"]["reference"]) == (1, 1)
    assert named["ended_properly"]["reference"] == 0  # true endings stop after 12 tokens too
    assert named["longest_train_span"]["reference"] == 3  # " He liked it", and these are the training stories
    assert found["telling"] == {"count": 3, "file": None, "temperature": 0.8, "train": real, "eyes": model}
    assert (found["seed"], found["max_new_tokens"], found["max_stories"]) == (0, 12, None)
    assert all(set(row) == ROW for row in found["metrics"])
    assert judged(tmp_path, *arguments)["told"] == found["told"]
    assert judged(tmp_path, *arguments, "--seed", "3")["told"] != found["told"]
    shown = call(evaluate, *arguments).stdout
    assert "compare them with figures of the same eyes only" in " ".join(shown.split())
    assert "real stories" in shown
    assert "longest train span" in shown


@pytest.mark.usefixtures("_eval")
def test_stories_of_a_file_are_judged(model, real, tmp_path):
    told = tmp_path / "told.jsonl"
    told.write_text("\n".join(json.dumps({"text": f"Once. He ran {n} times."}) for n in range(3)))
    found = judged(tmp_path, model, "--stories", str(told))
    assert [story["told"] for story in found["told"]] == [f"Once. He ran {n} times." for n in range(3)]
    named = {row["name"]: row for row in found["metrics"]}
    assert named["ended_properly"]["value"] == 1
    assert all(row["reference"] is None for row in found["metrics"])
    beside = {row["name"]: row for row in judged(tmp_path, model, real, "--stories", str(told))["metrics"]}
    assert beside["flesch_kincaid_grade"]["reference"] is not None
    assert "bleu" not in beside  # nothing was given to begin with
    assert found["telling"] == {"count": 3, "file": str(told), "temperature": None, "train": None, "eyes": None}
    assert "mauve" not in beside  # no eyes, and those of the model would be others for every model
    assert "--eyes MODEL" in call(evaluate, model, "--stories", str(told)).stdout


@pytest.mark.usefixtures("_eval")
def test_stories_of_a_file_are_held_against_the_endings_of_their_own_beginnings(model, real, tmp_path):
    begun, told = [f"Tom had {n} cats. One was red." for n in (5, 2)], tmp_path / "told.jsonl"
    ending = " He liked it very much. They all ran home."
    told.write_text("\n".join(json.dumps({"prompt": one, "text": one + ending}) for one in begun))
    named = {row["name"]: row for row in judged(tmp_path, model, real, "--stories", str(told))["metrics"]}
    assert named["rouge_l"]["value"] == 1  # those are their own
    told.write_text(told.read_text().replace("Tom had 2", "Tim had 2"))
    result = call(evaluate, model, real, "--stories", str(told), "--json")
    named = {row["name"]: row for row in json.loads(result.stdout)["metrics"]}
    assert "bleu" not in named
    assert "rouge_l" not in named
    assert named["ended_properly"]["reference"] == 1
    assert "no BLEU and ROUGE: not every story begins as one of" in result.stderr


@pytest.mark.usefixtures("_eval")
@pytest.mark.parametrize("with_data", [False, True])
def test_a_model_that_ends_at_once(real, tmp_path, monkeypatch, with_data):
    """It has told nothing, which is a finding and no accident."""
    from storylm.generation import telling

    silent = small_model(tmp_path / "silent")
    monkeypatch.setattr(telling.Telling, "add", lambda self, token: setattr(self.story, "ended", "end") or "")
    arguments = [silent, *([real] if with_data else []), "--stories", "4", "--eyes", silent]
    named = {row["name"]: row for row in judged(tmp_path, *arguments)["metrics"]}
    assert named["eyes_bits_per_byte"]["value"] is None
    assert named["ended_properly"]["value"] == 0
    assert named["reached_limit"]["value"] == 0


def test_what_is_computed_is_written_before_the_next_part(model, data, tmp_path, monkeypatch):
    from storylm.evaluation import asking

    def breaks(*arguments):
        raise DataError("the disk is on fire")

    monkeypatch.setattr(asking, "ask_suite", breaks)
    out = tmp_path / "figures.json"
    with pytest.raises(DataError, match="on fire"):
        call(evaluate, model, data, "--suites", "facts", "--output", str(out))
    assert json.loads(out.read_text())["metrics"][0]["name"] == "bits_per_byte"


def test_every_story_and_every_split_has_its_figures(model, tmp_path):
    for name, stories in {"train.txt": STORIES, "valid.txt": STORIES[:2]}.items():
        (tmp_path / name).write_text("\n<|endoftext|>\n".join(stories))
    found = judged(tmp_path, model, str(tmp_path), "--split", "all", "--per-story", "--max-stories", "4")
    assert list(found["splits"]) == ["train", "validation"]
    for name, some in {"train": STORIES, "validation": STORIES[:1]}.items():
        expected = likelihood.evaluate(*load(model), [story.strip() for story in some])
        assert found["splits"][name]["stories"] == len(some)
        assert found["splits"][name]["bits_per_byte"] == pytest.approx(expected.bits_per_byte)
    assert (found["splits"]["train"]["interval"] is None, found["splits"]["validation"]["interval"]) == (False, None)
    assert {len(column) for column in found["per_story"].values()} == {4}
    assert sum(found["per_story"]["nats"]) == pytest.approx(found["nats"])
    plain = judged(tmp_path, model, str(tmp_path))
    assert not {"splits", "per_story"} & set(plain)
    shown = call(evaluate, model, str(tmp_path), "--split", "all").stdout
    for name in ("train", "validation"):
        (line,) = (line for line in shown.splitlines() if line.startswith(name))
        assert len(line.split()) >= 4


@pytest.mark.usefixtures("_eval")
def test_without_data_stories_begin_as_the_package_has_it(model, tmp_path):
    from storylm.evaluation.instructions import beginnings

    found = judged(tmp_path, model, "--stories", "52", "--max-new-tokens", "2")
    assert [story["prompt"] for story in found["told"]] == [*beginnings(), *beginnings()[:2]]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], UsageError, "say what to judge by"),
        (["--details", "--suites", "facts"], UsageError, "about DATA, which is missing"),
        (["grammar", "--train", "grammar"], UsageError, "say --stories N"),
        (["grammar", "--eyes", "grammar-1m"], UsageError, "say --stories N"),
        (["grammar", "--per-story"], UsageError, "say --output FILE or --json"),
        (["--per-story", "--suites", "facts"], UsageError, "about DATA, which is missing"),
        (["--suites", "sports"], UsageError, "no prompt suite 'sports'"),
        (["--suites", ","], UsageError, "--suites is empty"),
        (["--stories", "0"], UsageError, "1 or more"),
        (["--stories", "told.csv"], UsageError, "neither a number nor a file"),
        (["--stories", "nowhere.jsonl"], DataError, "nowhere"),
        (["grammar", "--stories", "3", "--train", "nowhere.txt"], DataError, "nowhere"),
    ],
)
@pytest.mark.usefixtures("_eval")
def test_mistakes_about_suites_and_stories(arguments, error, words):
    with pytest.raises(error, match=words):
        call(evaluate, "no-such-model", *arguments)


def test_an_option_out_of_its_range_is_named_as_it_is_written(model):
    for option, value in (("--max-stories", "0"), ("--max-new-tokens", "0"), ("--temperature", "-1")):
        refused = call(evaluate, model, "grammar", option, value)
        assert refused.exit_code == 2
        assert option in refused.stderr


def test_a_model_that_diverged_has_no_figure(tmp_path):
    output = tmp_path / "found.json"
    with pytest.raises(CheckpointError, match="predictions are not numbers"):
        call(evaluate, diverged_model(tmp_path / "diverged"), "grammar?validation=3", "--output", str(output))
    assert not output.exists()

"""lm-eval about our models, on tasks written here, against likelihoods of our own."""

import json
import math
from pathlib import Path

import pytest

from cli.telling import call, small_model
from evaluation.zero_shot_tasks import QUESTIONS, SENTENCES, own_nats, write_tasks
from export.conftest import needed
from storylm.cli.evaluate import evaluate
from storylm.config.errors import UsageError

needed("lm_eval")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs, of many kinds


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    return write_tasks(tmp_path)


def random_bytes(tmp_path: Path) -> str:
    return small_model(tmp_path / "bytes")


@pytest.mark.parametrize("source", ["grammar-1m", random_bytes], ids=["grammar-1m", "bytes"])
def test_figures_are_those_of_our_own_likelihoods(source, tasks, tmp_path) -> None:
    model = source if isinstance(source, str) else source(tmp_path)
    out = tmp_path / "found.json"
    names = f"{tasks['choosing']},{tasks['last_word']}"
    shown = call(evaluate, model, "--harness", names, "--output", str(out)).stdout
    found = json.loads(out.read_text())
    figures = {row["name"]: row for row in found["metrics"]}
    assert list(figures) == ["choosing_acc", "last_word_perplexity", "last_word_acc"]
    nats = own_nats(model, [(text, choice) for text, choices, _ in QUESTIONS for choice in choices]).reshape(-1, 3)
    right = nats.argmin(axis=1) == [label for *_, label in QUESTIONS]
    assert figures["choosing_acc"]["value"] == right.mean()
    assert figures["choosing_acc"]["reference"] == pytest.approx(1 / 3)
    stderr = right.std(ddof=1) / math.sqrt(len(right))
    assert found["harness"]["tasks"]["choosing"]["acc_stderr,none"] == pytest.approx(stderr)
    low, high = figures["choosing_acc"]["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * stderr, rel=1e-3)
    words = own_nats(model, [tuple(text.rsplit(" ", 1)) for text in SENTENCES])  # type: ignore[misc]
    assert figures["last_word_perplexity"]["value"] == pytest.approx(math.exp(words.mean()), rel=1e-4)
    assert figures["last_word_perplexity"]["direction"] == "lower"
    assert "choosing acc" in shown
    assert found["harness"]["left_out"] == {}


def test_a_group_has_one_row_and_its_tasks_are_in_the_json(tasks, tmp_path, monkeypatch) -> None:
    """As of BLiMP: a name that lm-eval has, here of the tasks in a folder of ours."""
    from lm_eval.tasks import TaskManager

    ours = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **_: ours)
    found = json.loads(call(evaluate, "grammar-1m", "--harness", "pair", "--json").stdout)
    (row,) = found["metrics"]
    assert (row["name"], row["reference"]) == ("pair_acc", pytest.approx(1 / 3))
    parts = found["harness"]["tasks"]
    assert row["value"] == parts["pair"]["acc,none"] == parts["choosing"]["acc,none"] == parts["again"]["acc,none"]
    stderr = parts["choosing"]["acc_stderr,none"]
    assert row["interval"][1] - row["value"] == pytest.approx(1.96 * stderr / math.sqrt(2), rel=1e-3)


def test_a_limit_and_a_task_whose_data_cannot_be_had(tasks, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "found.json"
    names = f"{tasks['nowhere']},{tasks['choosing']}"
    done = call(evaluate, "grammar-1m", "--harness", names, "--harness-limit", "2", "--output", str(out))
    found = json.loads(out.read_text())
    assert [row["name"] for row in found["metrics"]] == ["choosing_acc"]
    assert found["harness"]["tasks"]["choosing"]["sample_len"] == found["harness"]["limit"] == 2
    (line,) = [line for line in done.stderr.splitlines() if "left out" in line]
    assert line.startswith(f"{tasks['nowhere']} is left out: its data cannot be had (")
    assert list(found["harness"]["left_out"]) == [tasks["nowhere"]]
    assert "\r" not in done.stderr
    alone = call(evaluate, "grammar-1m", "--harness", tasks["nowhere"], "--json")
    assert json.loads(alone.stdout)["metrics"] == []


def test_names_that_lm_eval_has_not_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="did you mean 'lambada_openai'"):
        call(evaluate, "grammar-1m", "--harness", "lambada_opnai")
    with pytest.raises(UsageError, match="no file"):
        call(evaluate, "grammar-1m", "--harness", str(tmp_path / "none.yaml"))

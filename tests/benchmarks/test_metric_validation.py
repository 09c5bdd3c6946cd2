"""The validation of metrics, on a few stories."""

import json
from pathlib import Path

import metric_validation
import pytest
from metric_validation import ANOTHERS, harmed, trend, way
from rich.console import Console

from storylm.evaluation.text.metric import Told

ENDING = (
    ' He saw Lily. "Hi, Tom!" said Lily. They ran home, all {n}. It was very big. They ate a cake. It rained all day.'
)
STORIES = [Told(f"Tom had {n} dogs.", ENDING.replace("{n}", str(n))) for n in range(8)]
ONLY = {"ended_properly", "repeated_sentences", "kept_names"}


def test_a_trend_is_strict_and_one_way() -> None:
    assert trend([0.1, 0.2, 0.5]) == 1
    assert trend([5, 4, 3, 2]) == -1
    assert trend([1, 2, 2]) == trend([1, 3, 2]) == trend([1, None, 2]) == 0


@pytest.mark.parametrize(
    ("direction", "rising", "falling"),
    [("higher", "wrong_way", "ranked"), ("lower", "ranked", "wrong_way"), ("reference", "ranked", "ranked")],
)
def test_damage_is_for_the_worse(direction: str, rising: str, falling: str) -> None:
    up, down, neither = [[1, 2, 3], [1, 4, 5]], [[3, 2, 1], [3, 1, 0]], [[1, 2, 3], [3, 2, 1]]
    for series, name in ((up, rising), (down, falling)):
        assert way(series, direction) == {"ranked": name == "ranked", "wrong_way": name == "wrong_way"}
    assert way(neither, direction) == {"ranked": False, "wrong_way": False}


def test_endings_go_to_others_and_beginnings_stay() -> None:
    found = harmed(STORIES, ANOTHERS, 0.5, seed=1)
    assert [story.beginning for story in found] == [story.beginning for story in STORIES]
    moved = [number for number in range(8) if found[number].told != STORIES[number].told]
    assert len(moved) == 4
    assert all(found[number].told == STORIES[number - 1].told for number in moved)
    assert [story.beginning for story in harmed(STORIES, "swapped names", 1.0, 0)] == [s.beginning for s in STORIES]


def test_every_damage_is_ranked_by_whom_it_concerns() -> None:
    found = metric_validation.validate(STORIES, STORIES, None, 1, Console(quiet=True), ONLY)
    assert set(found) == ONLY
    assert found["ended_properly"]["sound"] == 1
    assert found["ended_properly"]["damages"]["cut off"]["values"][-1] == 0
    ranked = found["repeated_sentences"]["damages"]["repeated sentences"]
    assert ranked["ranked"]
    assert len(ranked["values"]) == len(ranked["amounts"]) == 3
    assert not found["ended_properly"]["damages"]["swapped names"]["ranked"]
    assert set(found["kept_names"]["damages"]) == set(metric_validation.AMOUNTS)


def test_some_metrics_leave_the_others_figures_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "metrics.json"
    output.write_text(json.dumps({"metrics": {"mauve": {"sound": 0.5}}}))
    monkeypatch.setattr(metric_validation, "read_stories", lambda count: STORIES)
    monkeypatch.setattr(metric_validation, "seeing", lambda name: None)
    arguments = ["--stories", "4", "--seeds", "1", "--only", "ended_properly", "--output", str(output)]
    assert metric_validation.main(arguments) == 0
    written = json.loads(output.read_text())
    assert set(written["metrics"]) == {"mauve", "ended_properly"}
    assert (written["stories"], written["others"]) == (4, 4)

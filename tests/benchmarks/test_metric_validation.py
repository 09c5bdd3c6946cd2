"""The validation of metrics, on a few stories."""

import json
from pathlib import Path

import metric_validation
import pytest
from metric_validation import in_order
from rich.console import Console

STORIES = [
    f'Once there was a boy named Tom. Tom had {n} dogs. He saw Lily. "Hi, Tom!" said Lily. They ran to Lily\'s house.'
    for n in range(8)
]
ONLY = {"ended_properly", "repeated_sentences", "kept_names"}


def test_order_is_strict_and_one_way() -> None:
    assert in_order([0.1, 0.2, 0.5])
    assert in_order([5, 4, 3, 2])
    assert not in_order([1, 2, 2])
    assert not in_order([1, 3, 2])
    assert not in_order([1, None, 2])


def test_every_damage_is_ranked_by_whom_it_concerns() -> None:
    found = metric_validation.validate(STORIES, STORIES, None, 1, Console(quiet=True), ONLY)
    assert set(found) == ONLY
    assert found["ended_properly"]["sound"] == 1
    assert found["ended_properly"]["damages"]["cut off"]["values"][-1] == 0
    ranked = found["repeated_sentences"]["damages"]["repeated sentences"]
    assert ranked["ranked"]
    assert len(ranked["values"]) == len(ranked["amounts"]) == 3
    assert not found["ended_properly"]["damages"]["swapped names"]["ranked"]


def test_some_metrics_leave_the_others_figures_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "metrics.json"
    output.write_text(json.dumps({"metrics": {"mauve": {"sound": 0.5}}}))
    monkeypatch.setattr(metric_validation, "read_stories", lambda count: STORIES)
    monkeypatch.setattr(metric_validation, "judge_model", lambda: None)
    arguments = ["--stories", "4", "--seeds", "1", "--only", "ended_properly", "--output", str(output)]
    assert metric_validation.main(arguments) == 0
    written = json.loads(output.read_text())
    assert set(written["metrics"]) == {"mauve", "ended_properly"}
    assert (written["stories"], written["others"]) == (4, 4)

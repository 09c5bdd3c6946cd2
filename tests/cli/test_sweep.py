"""`storylm sweep` from the outside; that it trains, in processes of its own, is a slow test."""

import json
import sys

import pytest

from cli.telling import call
from storylm.cli.sweep import sweep
from storylm.config.errors import UsageError
from storylm.training.sweep import runner
from training.sweep.test_runner import STAND_IN

pytest.importorskip("matplotlib")
TINY = [
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "model.vocab_size=260",
    "model.context=32",
    "tokenizer=bytes",
]
SHORT = [
    "data.source=grammar?stories=60&validation=6",
    "train.batch_size=4",
    "train.sample_prompts=[]",
    "track.plot=false",
]


@pytest.fixture
def _stand_in(monkeypatch) -> None:
    monkeypatch.setattr(
        runner,
        "train_command",
        lambda point, folder: [sys.executable, str(STAND_IN), *point.overrides, "--out", str(folder)],
    )


@pytest.mark.usefixtures("_stand_in")
def test_failures_make_the_exit_code(tmp_path) -> None:
    done = call(sweep, "story-1m", "optim.lr=9,8", "--out", str(tmp_path / "sweep"))
    assert done.exit_code == 1
    assert "lr=9: failed (storylm: the machine has no such thing); 1 of 2 done" in done.stderr
    assert "diverged" in done.stdout
    assert "No run is judged yet" in (tmp_path / "sweep" / "sweep.html").read_text()


@pytest.mark.usefixtures("_stand_in")
def test_mistakes_come_before_any_run(tmp_path) -> None:
    out = tmp_path / "sweep"
    for words, message in (
        ((), "say what to train"),
        (("story-9m",), "story-9m"),
        (("story-1m", "optim.lrr=1"), "did you mean"),
        (("story-1m", "optim.lr=1e-3,2e-3", "--config", "nowhere.yaml"), "nowhere"),
    ):
        with pytest.raises(UsageError, match=message):
            call(sweep, *words, "--out", str(out))
    assert not out.exists()


@pytest.mark.slow
def test_runs_are_trained_and_the_page_is_of_them(tmp_path) -> None:
    out = tmp_path / "sweep"
    words = ["grammar-1m", *TINY, *SHORT, "train.steps=4", "optim.lr=1e-3,1e-2", "--out", str(out), "--jobs", "2"]
    done = call(sweep, *words, env={"COLUMNS": "150"})
    assert done.exit_code == 0, done.stderr
    record = json.loads((out / "sweep.json").read_text())["runs"]
    assert {entry["ended"] for entry in record.values()} == {"finished"}
    figures = [entry["bits_per_byte"] for entry in record.values()]
    assert len(set(figures)) == 2
    assert f"{min(figures):.4f}" in done.stdout.splitlines()[1]
    assert f"{min(figures):.4f} bits per byte" in (out / "sweep.html").read_text()
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    before = (out / "lr=1e-3" / "metrics.jsonl").stat().st_mtime_ns
    again = call(sweep, *words)
    assert again.stderr.count("finished before") == 2
    assert (out / "lr=1e-3" / "metrics.jsonl").stat().st_mtime_ns == before

"""`storylm sweep` from the outside; that it trains, in processes of its own, is a slow test."""

import json
import sys

import pytest

from cli.telling import call
from storylm.cli.sweep import sweep
from storylm.config.errors import UsageError
from storylm.training.sweep import processes
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
        processes,
        "train_command",
        lambda point, folder: [sys.executable, str(STAND_IN), *point.overrides, "--out", str(folder)],
    )


@pytest.mark.usefixtures("_stand_in")
def test_failures_make_the_exit_code(tmp_path) -> None:
    done = call(sweep, "story-1m", "optim.lr=9,8", "--out", str(tmp_path / "sweep"), env={"COLUMNS": "150"})
    assert done.exit_code == 1
    assert "lr=9: failed (storylm: the machine has no such thing); 1 of 2 done" in done.stderr
    assert "diverged" in done.stdout
    assert "failed: storylm: the machine has no such thing" in done.stdout
    assert f"lr=9: begun, see {tmp_path / 'sweep' / 'lr=9.log'}" in done.stderr
    assert done.stderr.splitlines()[0] == f"2 runs in {tmp_path / 'sweep'}, 1 at a time"
    assert "No run is judged yet" in (tmp_path / "sweep" / "sweep.html").read_text()


@pytest.mark.usefixtures("_stand_in")
def test_where_all_fail_there_is_no_page_and_the_table_says_why(tmp_path) -> None:
    done = call(sweep, "story-1m", "optim.lr=9", "--out", str(tmp_path / "sweep"), env={"COLUMNS": "150"})
    assert done.exit_code == 1
    assert done.stderr.startswith("1 run in ")
    assert "failed: storylm: the machine has no such thing" in done.stdout
    assert "all of them failed, so there is no page" in done.stderr
    assert not (tmp_path / "sweep" / "sweep.html").exists()


@pytest.mark.usefixtures("_stand_in")
def test_a_folder_alone_is_told_anew_and_fitted(tmp_path) -> None:
    out = str(tmp_path / "sweep")
    call(sweep, "story-1m", "optim.lr=1e-3,1e-2", "train.minutes=1", "--out", out)
    (tmp_path / "sweep" / "sweep.html").unlink()
    done = call(sweep, "--out", out)
    assert done.exit_code == 0
    assert "finished" in done.stdout
    assert "begun" not in done.stderr
    assert (tmp_path / "sweep" / "sweep.html").exists()
    with pytest.raises(UsageError, match="6 runs or more"):
        call(sweep, "--out", out, "--fit")


@pytest.mark.usefixtures("_stand_in")
def test_minutes_of_runs_at_a_time_are_of_a_shared_machine(tmp_path) -> None:
    words = ("story-1m", "optim.lr=1e-3,1e-2")
    for jobs, minutes, said in (("2", "train.minutes=1", 1), ("1", "train.minutes=1", 0), ("2", "train.steps=1", 0)):
        done = call(sweep, *words, minutes, "--jobs", jobs, "--out", str(tmp_path / f"{jobs}{minutes}"))
        assert done.stderr.count("share the machine") == said


@pytest.mark.usefixtures("_stand_in")
def test_mistakes_come_before_any_run(tmp_path) -> None:
    out = tmp_path / "sweep"
    for words, message in (
        ((), "say what to train"),
        (("story-9m",), "story-9m"),
        (("story-1m", "optim.lrr=1"), "did you mean"),
        (("story-1m", "optim.lr=1e-3,2e-3", "--config", "nowhere.yaml"), r"there is no file nowhere\.yaml: --config"),
        (("story-1m", "optim.lr=1e-3..2e-3"), "a range needs --search N"),
        (("story-1m", "optim.lr=1e-3,2e-3", "--jobs", "none"), "--jobs none is not allowed"),
        (("story-1m", "model.heads=1,x", "--search", "3"), "model.heads=x cannot be used"),
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

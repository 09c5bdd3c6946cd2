"""`storylm plan`: exact where it can be, measured where asked, null where it cannot know."""

import json
import math
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storylm.cli import app
from storylm.config.errors import DataError, UsageError
from storylm.config.load import preset, resolve
from storylm.model.count import checkpoint_bytes, training_bytes
from storylm.training import plan as planning

SMALL = ("model.layers=1", "model.width=16", "model.heads=1", "model.vocab_size=64", "data.context=32")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments, **options):
        raise AssertionError("plan must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)


def planned(*arguments: str) -> dict:
    done = CliRunner().invoke(app, ["plan", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def test_a_run_of_known_length_without_a_probe() -> None:
    plan = planned("nano-22m", "--no-probe", "train.precision=fp32", "train.device=cpu")
    model = preset("nano-22m").model
    assert plan["parameters"] == 21_955_584
    assert plan["flops_per_token"] / 1e6 == pytest.approx(132, rel=0.01)
    assert (plan["steps"], plan["tokens"], plan["tokens_per_step"]) == (56_000, 458_752_000, 8192)
    assert plan["training_bytes"] == training_bytes(model, 64, 128, "fp32", "adamw")
    assert plan["disk_bytes"] == 4 * checkpoint_bytes(model, "adamw")
    assert plan["seconds"] is None
    assert plan["tokens_per_second"] is None
    assert not list(Path().iterdir())


def test_an_epoch_of_tinystories_is_estimated_and_of_unknown_stories_is_not() -> None:
    plan = planned("gpt2-33m", "--no-probe")
    assert plan["tokens"] == pytest.approx(400e6, rel=0.05)  # 1.63 GB at 4.05 bytes a token, and the end tokens
    assert plan["steps"] == math.ceil(plan["tokens"] / (1024 * 512))
    twice = planned("gpt2-33m", "--no-probe", "train.epochs=2")
    assert twice["tokens"] == pytest.approx(2 * plan["tokens"], rel=1e-6)
    few = planned("gpt2-33m", "--no-probe", "data.max_stories=1000")
    assert few["tokens"] == pytest.approx(1000 * plan["tokens"] / 1_798_254, rel=1e-3)
    unknown = planned("gpt2-33m", "--no-probe", "data.source=somewhere/else")
    assert unknown["tokens"] is unknown["steps"] is None
    timed = planned("gpt2-33m", "--no-probe", "train.minutes=10")
    assert timed["tokens"] is timed["steps"] is None
    assert timed["seconds"] == 600


def test_an_epoch_of_prepared_stories_is_known(tmp_path: Path) -> None:
    manifest = {"kind": "prepared stories", "version": 1, "splits": {"train": {"tokens": 12_345}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    plan = planned("story-1m", "--no-probe", f"data.source={tmp_path}", "train.epochs=2")
    assert (plan["tokens"], plan["steps"]) == (24_690, math.ceil(24_690 / 8192))


def test_a_padded_row_is_a_story() -> None:
    plan = planned("mistral-40m", "--no-probe", "train.steps=10")
    assert plan["tokens_per_step"] == pytest.approx(6 * 243, rel=0.02)  # 906 bytes at 3.75, and the end token
    assert plan["training_bytes"] > 3e9  # but memory is for the longest


def test_kept_checkpoints_take_disk() -> None:
    plain = planned("nano-22m", "--no-probe")["disk_bytes"]
    assert planned("nano-22m", "--no-probe", "train.keep_every=28000")["disk_bytes"] == plain * 6 // 4
    assert planned("nano-22m", "--no-probe", "train.steps=8", "train.keep_log_spaced=true")["disk_bytes"] == 2 * plain


def test_the_probe_measures_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.3)
    plan = planned("story-1m", *SMALL, "train.minutes=2", "train.device=cpu", "train.precision=fp32")
    assert plan["tokens_per_second"] > 100
    assert plan["seconds"] == 120
    assert plan["tokens"] == plan["steps"] * 32 * 32
    assert plan["tokens"] == pytest.approx(120 * plan["tokens_per_second"], rel=0.01, abs=2048)


def test_the_probe_trains_rows_of_the_runs_own_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    seen = []
    monkeypatch.setattr(planning, "_update_seconds", lambda learner, rows, length: seen.append((rows, length)) or 0.25)
    monkeypatch.setattr(planning, "reuse_freed_memory", lambda: None)
    config = resolve("story-1m", None, [*SMALL, "train.batch_size=24"]).config
    monkeypatch.setattr(planning, "PROBE_SECONDS", 2.0)
    speed = planning.probe_speed(config, torch.device("cpu"), "fp32")
    assert {length for _, length in seen} == {32}
    assert seen[-1][0] == 24
    assert speed == 24 * 32 / 0.25
    seen.clear()
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.6)
    assert planning.probe_speed(config, torch.device("cpu"), "fp32") == 32 / 0.25  # slow machine: one row
    assert {rows for rows, _ in seen} == {1}


def test_people_get_lines_with_units() -> None:
    done = CliRunner().invoke(
        app, ["plan", "llama2c-260k", "--no-probe", "data.source=somewhere/else", "train.epochs=1"]
    )
    assert done.exit_code == 0
    assert all(word in done.stdout for word in ("260,032", "million", "MB", "not measured", "once the stories"))


@pytest.mark.parametrize("spec", ["nofile.txt", "./nothing", "~nosuchuser/x", "/x.jsonl", "here/nothing", "tinystory"])
def test_stories_that_are_not_there(spec: str) -> None:
    Path("here").mkdir()
    for key in ("data.source", "data.validation"):
        with pytest.raises(DataError, match="no file, folder or corpus"):
            planned("story-1m", "--no-probe", f"{key}={spec}")


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="say what to plan"):
        planned()
    with pytest.raises(UsageError, match=r"did you mean 'train\.steps'"):
        planned("story-1m", "train.step=3")

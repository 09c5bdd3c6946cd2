"""`storylm plan`: exact where it can be, measured where asked, null where it cannot know."""

import json
import math
import socket
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from storylm.cli import app
from storylm.config.errors import DataError, UsageError
from storylm.config.load import preset
from storylm.model.count import PROCESS_BYTES
from storylm.training import plan as planning
from storylm.training.needs import checkpoint_bytes, training_bytes
from storylm.training.probe import Probe

PROBE = Probe(
    step_seconds=0.5,
    rows=16,
    compile_seconds=7.0,
    judging_seconds=0.01,
    telling_seconds=2.0,
    saving_seconds=3.0,
    memory_bytes=1_230_000_000,
    matmul_flops=1e12,
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments, **options):
        raise AssertionError("plan must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal whose figures are `PROBE`."""
    monkeypatch.setattr(planning, "probe", lambda config, watch: PROBE)


def given(tmp_path: Path, validation: int = 50) -> str:
    """Prepared stories: a setting."""
    splits = {"train": {"tokens": 1_000_000, "stories": 5000}, "validation": {"stories": validation}}
    manifest = {"kind": "prepared stories", "version": 1, "splits": splits}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return f"data.source={tmp_path}"


def planned(*arguments: str) -> dict:
    done = CliRunner().invoke(app, ["plan", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def test_a_run_of_known_length_without_a_probe() -> None:
    plan = planned("nano-22m", "--no-probe", "train.precision=fp32", "train.device=cpu")
    config = preset("nano-22m")
    assert plan["parameters"] == 21_955_584
    assert plan["flops_per_token"] / 1e6 == pytest.approx(132, rel=0.01)
    assert (plan["steps"], plan["tokens"], plan["tokens_per_step"]) == (56_000, 458_752_000, 8192)
    assert plan["memory_bytes"] == training_bytes(config, 64, "fp32", torch.device("cpu")) + PROCESS_BYTES
    assert plan["memory_measured"] is False
    assert plan["disk_bytes"] == 4 * checkpoint_bytes(config)
    assert plan["seconds"] is None
    assert plan["tokens_per_second"] is plan["share_of_peak"] is None
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
    plan = planned("story-1m", "--no-probe", given(tmp_path), "train.epochs=2")
    assert (plan["tokens"], plan["steps"]) == (2_000_000, math.ceil(2_000_000 / 8192))


def test_a_padded_row_is_a_story() -> None:
    plan = planned("mistral-40m", "--no-probe", "train.steps=10")
    assert plan["tokens_per_step"] == pytest.approx(6 * 243, rel=0.02)  # 906 bytes at 3.75, and the end token
    assert plan["memory_bytes"] > 3e9  # but memory is for the longest


def test_kept_checkpoints_take_disk() -> None:
    plain = planned("nano-22m", "--no-probe")["disk_bytes"]
    assert planned("nano-22m", "--no-probe", "train.keep_every=28000")["disk_bytes"] == plain * 6 // 4
    assert planned("nano-22m", "--no-probe", "train.steps=8", "train.keep_log_spaced=true")["disk_bytes"] == 2 * plain


@pytest.mark.usefixtures("probed")
def test_the_time_of_a_run_is_compiling_steps_and_all_else(tmp_path: Path) -> None:
    settings = ("train.batch_size=8", "train.accumulation=4", "train.steps=100", "data.context=256")
    plan = planned("story-1m", given(tmp_path), *settings, "train.eval_every=40", "train.sample_every=30")
    assert plan["seconds_per_step"] == 1.0  # of 32 rows, where 16 took half a second
    assert plan["compile_seconds"] == 7.0
    # Judged at 40, 80 and 100 (and saved, as each may be the best); told at 30, 60, 90 and the end.
    assert plan["other_seconds"] == pytest.approx(3 * 50 * 0.01 + 4 * 2.0 + 3 * 3.0)
    assert plan["seconds"] == pytest.approx(7 + 100 + 18.5)
    assert plan["memory_bytes"] == 1_230_000_000
    assert plan["memory_measured"] is True
    assert plan["tokens_per_second"] == 32 * 256
    assert plan["share_of_peak"] == pytest.approx(plan["flops_per_token"] * 32 * 256 / 1e12)


@pytest.mark.usefixtures("probed")
def test_where_only_some_stories_are_judged_all_are_at_the_end(tmp_path: Path) -> None:
    settings = (given(tmp_path), "train.steps=100", "train.sample_every=0", "train.save_every=0")
    every = planned("story-1m", *settings, "train.eval_every=0")
    assert every["other_seconds"] == pytest.approx(50 * 0.01 + 2 + 3)
    some = planned("story-1m", *settings, "train.eval_every=10", "train.eval_stories=20")
    assert some["other_seconds"] == pytest.approx(10 * 20 * 0.01 + 50 * 0.01 + 2 + 10 * 3)


@pytest.mark.usefixtures("probed")
def test_unknown_stories_are_not_judged_on_paper() -> None:
    plan = planned(
        "story-1m", "data.source=some/where", "train.steps=10", "train.eval_every=0", "train.eval_stories=null"
    )
    assert plan["validation_stories"] is None
    assert plan["other_seconds"] == 5.0


@pytest.mark.usefixtures("probed")
def test_a_run_by_the_clock_takes_what_it_is_given(tmp_path: Path) -> None:
    settings = (given(tmp_path), "train.minutes=2", "train.batch_size=16", "data.context=256")
    plan = planned("story-1m", *settings, "train.eval_every=0", "train.sample_every=0", "train.save_every=0")
    assert plan["seconds"] == 120
    assert plan["steps"] == int((120 - 7 - 5.5) / 0.5)
    assert plan["tokens"] == plan["steps"] * 16 * 256


@pytest.mark.usefixtures("probed")
def test_people_are_told_where_the_time_goes(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "story-1m", given(tmp_path), "train.steps=1000", "train.batch_size=16"])
    assert done.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["memory"].startswith("1.23 GB at the peak in ")
    assert lines["memory"].endswith(", measured")
    assert lines["time"].startswith("9 min: 7 s to compile, ")
    assert lines["time"].endswith(" for judging, telling and saving, the rest for steps")
    assert lines["speed"].endswith("% of this machine's peak")


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

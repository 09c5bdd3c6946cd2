"""metrics.jsonl: what its lines say, and what a crash, a resume and a full disk do to it."""

import errno
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storylm.config.errors import SetupError
from storylm.training.metrics import MetricsFile, read_metrics
from training.told import evaluation_record, step_record


def tell(path: Path, steps, first_step: int = 0) -> bytes:
    """A run that logs at `steps`, evaluates at the even ones, and ends; what stands in its file."""
    metrics = MetricsFile(path, first_step)
    for step in steps:
        metrics.after_step(step_record(step, loss=10 / (step + 1)))
        if step % 2 == 0:
            metrics.after_evaluation(evaluation_record(step))
    metrics.close()
    return path.read_bytes()


def test_every_number_is_a_line_with_its_kind(tmp_path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    metrics.after_step(step_record(10, loss=8.31, steps=None, skipped=3))
    metrics.after_evaluation(evaluation_record(10, best=False))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # at once, not only when the file is closed
    assert [json.loads(line) for line in lines] == [
        {
            "kind": "step",
            "step": 10,
            "steps": None,
            "progress": 0.01,
            "loss": 8.31,
            "lr": 0.001,
            "gradient_norm": 0.75,
            "tokens": 640,
            "epoch": 0.02,
            "tokens_per_second": 41234.0,
            "seconds": 1.0,
            "skipped": 3,
            "share_of_peak": 0.3141,
            "memory_bytes": 1234567890,
        },
        {
            "kind": "evaluation",
            "step": 10,
            "tokens": 640,
            "epoch": 0.02,
            "seconds": 1.0,
            "nats_per_token": 2.0,
            "perplexity": 7.389,
            "bits_per_byte": 0.731,
            "best": False,
        },
    ]
    metrics.close()
    metrics.close()  # which an observer bears
    assert read_metrics(tmp_path / "metrics.jsonl") == [json.loads(line) for line in lines]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_null(value, tmp_path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    metrics.after_step(step_record(1, loss=value, gradient_norm=value))
    metrics.after_evaluation(evaluation_record(1, perplexity=value))
    metrics.close()

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    step, evaluation = (json.loads(line, parse_constant=refuse) for line in text.splitlines())
    assert step["loss"] is None
    assert step["gradient_norm"] is None
    assert evaluation["perplexity"] is None
    assert evaluation["nats_per_token"] == 2.0


@settings(max_examples=50, deadline=None)  # each example waits for the disk
@given(st.data())
def test_a_resumed_file_is_that_of_an_uninterrupted_run(tmp_path_factory, data) -> None:
    """Wherever the process died, in the middle of a line too, and whatever it had saved by then."""
    folder = tmp_path_factory.mktemp("run")
    whole = tell(folder / "whole.jsonl", range(1, 8))
    died = data.draw(st.integers(0, len(whole)), label="bytes written when it died")
    # Metrics are made durable before a checkpoint is saved: what it is about stands in the file.
    steps = [json.loads(line)["step"] for line in whole[:died].splitlines(keepends=True) if line.endswith(b"\n")]
    complete = [s for s in range(1, 8) if steps.count(s) == (2 if s % 2 == 0 else 1)]
    saved = data.draw(st.sampled_from([0, *complete]), label="saved at step")
    retold = data.draw(st.booleans(), label="dies after telling, before saving: the step is told again")
    (folder / "resumed.jsonl").write_bytes(whole[:died])
    assert tell(folder / "resumed.jsonl", range(saved + (not retold), 8) if saved else range(1, 8), saved) == (
        whole if saved < 7 or retold else whole[:died]
    )


def test_later_steps_are_forgotten_when_the_first_line_comes_and_not_before(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = tell(path, range(1, 7))
    metrics = MetricsFile(path, 3)
    metrics.before_checkpoint()
    metrics.close()
    assert path.read_bytes() == whole  # a resume that is refused has touched nothing
    tell(path, [4], 3)
    assert [(record["step"], record["kind"]) for record in read_metrics(path)] == [
        (1, "step"),
        (2, "step"),
        (2, "evaluation"),
        (3, "step"),
        (4, "step"),
        (4, "evaluation"),
    ]


@pytest.mark.parametrize(
    "torn",
    [b'{"kind": "step", "step": 3, "lo', b'{"kind": "st\xc3', b"\0\0\0\0", b"7", b'{"kind": "step"}', b'{"step": 3}'],
)
def test_a_torn_last_line_is_dropped_and_nothing_grows_onto_it(torn, tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = tell(path, [1, 2])
    path.write_bytes(whole + torn)
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 2]
    assert tell(path, [3], 2).startswith(whole + b'{"kind": "step", "step": 3,')


def test_lines_reach_the_disk_before_a_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0)
    metrics.after_step(step_record(1))
    metrics.after_step(step_record(2))
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((os.fstat(number).st_ino, os.fstat(number).st_size)))
    metrics.before_checkpoint()
    assert synced == [(path.stat().st_ino, path.stat().st_size)]
    assert path.read_text().count("\n") == 2
    metrics.close()


class OnFullDisk(type(Path())):
    """A path where what is appended finds no more room."""

    def open(self, mode="r", *arguments, **options):
        path = Path("/dev/full") if mode == "ab" else Path(self)
        return path.open(mode, *arguments, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_ends_the_run_with_the_name_of_the_file(tmp_path) -> None:
    metrics = MetricsFile(OnFullDisk(tmp_path / "metrics.jsonl"), 0)
    with pytest.raises(SetupError) as caught:
        metrics.after_step(step_record(1))
    assert str(tmp_path / "metrics.jsonl") in str(caught.value)
    assert "No space left" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    metrics.close()


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_before_the_bytes_are_durable_is_named_too(tmp_path, monkeypatch) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    metrics.after_step(step_record(1))
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(SetupError, match=r"metrics\.jsonl: No space left"):
        metrics.before_checkpoint()
    with pytest.raises(SetupError, match=r"new\.jsonl: No space left"):
        MetricsFile(tmp_path / "new.jsonl", 0).after_step(step_record(1))
    metrics.close()


def test_a_disk_that_takes_only_part_at_a_time_still_gets_every_byte(tmp_path, monkeypatch) -> None:
    """`FileIO.write` may write less than it was given."""

    class Narrow:
        def __init__(self, file):
            self.file = file

        def write(self, data) -> int:
            return self.file.write(bytes(data[:7]))

        def __getattr__(self, name):
            return getattr(self.file, name)

    class NarrowPath(type(Path())):
        def open(self, mode="r", *arguments, **options):
            file = super().open(mode, *arguments, **options)
            return Narrow(file) if mode == "ab" else file

    assert tell(NarrowPath(tmp_path / "narrow.jsonl"), [1, 2]) == tell(tmp_path / "wide.jsonl", [1, 2])

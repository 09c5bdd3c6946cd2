"""Out of memory: the answer fits, makes the same steps, and nothing that was saved is lost."""

import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

import storylm.training.out_of_memory as answers
from storylm.config.errors import SetupError
from storylm.training.learner import Learner
from storylm.training.metrics import read_metrics
from storylm.training.out_of_memory import OutOfMemoryError, answered, memory_warning, smaller_batches
from storylm.training.run import new_model, resume_run, train_run

CPU = torch.device("cpu")
ALLOCATOR = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."
FAILURES = (
    RuntimeError(ALLOCATOR),
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("bad_alloc"),
)


def room_for(rows: int, monkeypatch, error: Exception = FAILURES[0]) -> list[int]:
    """A machine on which more rows than that do not fit; the numbers of rows that are tried."""
    original, tried = Learner._forward_backward, []

    def forward_backward(self, batch, *arguments):
        tried.append(len(batch.tokens_BT))
        if len(batch.tokens_BT) > rows:
            raise error
        return original(self, batch, *arguments)

    monkeypatch.setattr(Learner, "_forward_backward", forward_backward)
    return tried


def test_the_answer_is_the_largest_batch_that_fits_and_following_it_works(small, tmp_path, monkeypatch) -> None:
    config = small("train.batch_size=24", "train.accumulation=2", "train.steps=3", "train.eval_every=0")
    assert train_run(config, tmp_path / "whole").reason == "finished"
    tried = room_for(10, monkeypatch)
    with pytest.raises(SetupError) as caught:
        train_run(config, tmp_path / "run")
    advice = "train.batch_size=8 train.accumulation=6"
    assert str(caught.value) == (
        f"out of memory at train.batch_size=24 on cpu: use {advice} (the same 48 rows a step); "
        f"go on with: storylm train --resume {tmp_path / 'run'} {advice}"
    )
    # With a quarter to spare, in two micro-batches: while the second is at work, there are gradients.
    assert tried == [24, 20, 10, 10]
    assert resume_run(tmp_path / "run", advice.split()).reason == "finished"
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / run / "metrics.jsonl") if line["kind"] == "step"]
        for run in ("whole", "run")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_whatever_the_allocator_raises(error, small, monkeypatch) -> None:
    room_for(3, monkeypatch, error)
    assert fail(learner_of(small()), small(), error).settings == "train.batch_size=2 train.accumulation=2"


def test_a_run_that_goes_out_of_memory_later_keeps_its_checkpoint(small, tmp_path, monkeypatch) -> None:
    config = small("train.batch_size=4", "train.steps=4", "train.save_every=4", "train.eval_every=0")
    train_run(config, tmp_path)
    before = record_of_checkpoint(tmp_path)
    room_for(2, monkeypatch)
    with pytest.raises(SetupError, match=r"use train\.batch_size=2 train\.accumulation=2"):
        resume_run(tmp_path, ["train.steps=8"])
    assert record_of_checkpoint(tmp_path) == before
    done = resume_run(tmp_path, ["train.steps=8", "train.batch_size=2", "train.accumulation=2"])
    assert (done.reason, done.steps) == ("finished", 8)


def record_of_checkpoint(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoints/last").iterdir()}


def learner_of(config) -> Learner:
    return Learner(new_model(config), config, "fp32", compiled=False)


def fail(learner: Learner, config, error: Exception = FAILURES[0]) -> OutOfMemoryError:
    with pytest.raises(OutOfMemoryError) as caught, answered(learner, config):
        raise error
    return caught.value


def test_where_not_even_one_row_fits(small, monkeypatch) -> None:
    room_for(0, monkeypatch)
    error = fail(learner_of(small()), small())
    assert "not even one row of 64 tokens fits" in str(error)
    assert error.settings == ""
    assert str(error.in_run(Path("runs/x"))).endswith("storylm train --resume runs/x")


def test_a_batch_of_one_has_no_smaller_one(small) -> None:
    config = small("train.batch_size=1")
    assert "not even one row" in str(fail(learner_of(config), config))


def test_several_devices_try_nothing_as_they_would_wait_for_each_other(small, monkeypatch) -> None:
    tried, learner = room_for(1, monkeypatch), learner_of(small())
    monkeypatch.setattr(learner, "ranks", type("Ranks", (), {"size": 2}))
    assert "try train.batch_size=2 train.accumulation=2 (the same 4 rows a step)" in str(fail(learner, small()))
    assert tried == []


def test_other_errors_are_none_of_its_business(small) -> None:
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, answered(learner_of(small()), small()):
            raise error
        assert caught.value is error


def test_what_the_failed_step_held_is_free_before_another_is_tried(small, monkeypatch) -> None:
    """Or the smaller one would fail as well: an error keeps the frames it came through, and they their tensors."""
    held, free = [], []

    def step() -> None:
        activations = torch.ones(1000)
        held.append(weakref.ref(activations))
        try:
            raise ValueError("first")
        except ValueError:
            raise RuntimeError(ALLOCATOR) from None

    monkeypatch.setattr(answers, "_fits", lambda *arguments: free.append(held[0]() is None) or True)
    with pytest.raises(OutOfMemoryError), answered(learner_of(small()), small()):
        step()
    assert free == [True]


@pytest.mark.parametrize(
    ("rows", "accumulation", "smaller"),
    [(64, 1, [32, 16, 8, 4, 2, 1]), (6, 1, [3, 2, 1]), (7, 3, [3, 1]), (24, 2, [16, 8, 4, 2, 1]), (1, 8, [])],
)
def test_smaller_batches_make_the_same_step(rows, accumulation, smaller, small) -> None:
    config = small(f"train.batch_size={rows}", f"train.accumulation={accumulation}")
    assert list(smaller_batches(config)) == smaller


def test_a_run_that_will_hardly_fit_is_warned_of_and_goes_on(small, tmp_path, monkeypatch, capsys) -> None:
    config = small("train.batch_size=8", "train.steps=1")
    estimate = answers.training_bytes(config, 4, "fp32", torch.device("cpu"))
    monkeypatch.setattr(answers, "available_memory", lambda device: estimate)
    assert train_run(config, tmp_path / "run").reason == "finished"
    said = capsys.readouterr().out
    assert re.search(r"warning: training at train\.batch_size=8 takes about 0\.\d GB and 0\.\d GB are free", said)
    assert "To be safe, use train.batch_size=4 train.accumulation=2 (the same 8 rows a step)" in said


def test_no_warning_where_it_fits_is_unknown_or_the_device_refuses_in_time(small, monkeypatch) -> None:
    for device, available in ((CPU, 10**12), (CPU, None), (torch.device("cuda"), 0)):
        monkeypatch.setattr(answers, "available_memory", lambda device, available=available: available)
        assert memory_warning(small(), "fp32", device) is None
    monkeypatch.setattr(answers, "available_memory", lambda device: 0)
    assert "choose a smaller model" in str(memory_warning(small(), "fp32", CPU))


PROGRAM = """
import resource, sys
from pathlib import Path
from storylm.config.errors import SetupError
from storylm.config.load import resolve
from storylm.training.run import resume_run, train_run
from training.runs import SMALL

folder, advice = Path(sys.argv[1]), sys.argv[2:]
settings = [*SMALL, "model.width=64", "model.layers=4", "train.steps=1", "train.batch_size=1024"]
config = resolve(None, None, settings).config
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 900_000_000,) * 2)
try:
    print((resume_run(folder, advice) if advice else train_run(config, folder)).reason)
except SetupError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_memory_that_is_really_out(tmp_path) -> None:
    """Of 1,024 rows that take some gigabytes, in a process that may have 0.9 more."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def last_line(*arguments: str) -> str:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    message = last_line()
    assert re.match(r"out of memory at train\.batch_size=1024 on cpu: use train\.batch_size=\d+ ", message)
    assert last_line(*message.rpartition(str(tmp_path / "run"))[2].split()) == "finished"

"""Several processes: they learn what one learns, from the same rows, and go on where any number of them stopped."""

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import HashStore

from storylm.config.errors import SetupError, UsageError
from storylm.config.load import to_yaml
from storylm.training.distributed import Ranks
from storylm.training.joining import joined, roll_call
from storylm.training.parallel import check_parallel
from storylm.training.run import resume_run
from storylm.training.voice import one_voice
from training.ranks import EVERY_STEP, LAYOUTS, WRAPPERS, Job, alone, launch, metrics, rows_read, same_run, torchrun
from training.runs import record_of


def job(folder: Path, kind: str, wrapper: str, **options) -> Job:
    return Job(str(folder), (*LAYOUTS[kind], f"train.parallel={wrapper}"), **options)


def test_two_processes_learn_what_one_does_and_one_goes_on(tmp_path) -> None:
    """Both wrappers, other rows and weights of a rank's parts; validation shared out; a checkpoint like any other."""
    jobs = {"packed": "ddp", "padded": "fsdp"}
    folders = {kind: tmp_path / f"{kind}-two" for kind in jobs}
    printed = launch(2, [job(folders[kind], kind, wrapper) for kind, wrapper in jobs.items()])
    assert "finished at step 12" in printed[0]
    assert printed[1] == ""
    for kind in jobs:
        one, two = tmp_path / kind, folders[kind]
        judged = alone(LAYOUTS[kind], one)
        assert rows_read(two, 2) == rows_read(one)
        same_run(one, two)
        for rank in range(2):
            assert json.loads(Path(f"{two}.result-{rank}").read_text()) == pytest.approx(judged, abs=1e-3)
        for folder in (one, two):
            resume_run(folder, ["train.steps=15"])
        same_run(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_runs_go_on_with_more_and_with_fewer_processes(wrapper, tmp_path) -> None:
    """2 -> 1 -> 4, with one wrapper and then the other: the same rows, the same losses, optimizers included."""
    one, parts = tmp_path / "one", tmp_path / "parts"
    other = WRAPPERS[1 - WRAPPERS.index(wrapper)]
    alone(LAYOUTS["packed"], one)
    rows = []
    stops = [(2, 4, wrapper), (1, 7, wrapper), (4, -1, other)]
    for number, (ranks, stop, wrap) in enumerate(stops):
        launch(ranks, [job(parts, "packed", wrap, resume=number > 0, signal_at=stop)])
        rows += rows_read(parts, ranks)
        for rank in range(ranks):
            Path(f"{parts}.rows-{rank}").unlink()
    assert rows == rows_read(one)
    same_run(one, parts)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_four_processes_that_were_stopped_end_bit_for_bit_like_four_that_were_not(wrapper, tmp_path) -> None:
    kinds = {
        "dropout": ("model.family=gpt2", "model.dropout=0.2", "optim.ema=0.9"),
        "muon": ("optim.optimizer=muon",),
        "adamw8bit": ("optim.optimizer=adamw8bit",),
        "bf16": ("train.precision=bf16", "train.batch_size=3", "train.accumulation=3"),
        "compiled": ("train.compile=on",),
    }
    if wrapper == "ddp":
        kinds["fp16"] = ("train.precision=fp16",)
    every = {kind: (EVERY_STEP, f"train.parallel={wrapper}", *settings) for kind, settings in kinds.items()}
    whole = [Job(str(tmp_path / kind), settings) for kind, settings in every.items()]
    parts = [Job(str(tmp_path / f"{kind}-parts"), settings, signal_at=6) for kind, settings in every.items()]
    launch(4, [*whole, *parts])
    launch(4, [Job(job.folder, (), resume=True) for job in parts])
    for one, other in zip(whole, parts, strict=True):
        assert record_of(Path(other.folder)) == record_of(Path(one.folder)), one.folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_saves_and_says_how_to_go_on(number, small, tmp_path) -> None:
    settings, run = tmp_path / "settings.yaml", tmp_path / "run"
    config = small("train.steps=100000", "train.eval_every=0", "train.sample_every=0", EVERY_STEP)
    settings.write_text(to_yaml(config))
    process = torchrun(2, "-m", "storylm", "train", "--config", str(settings), "--out", str(run))
    try:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=1200)
    finally:
        process.kill()
    said = re.findall(r"saved at step ([\d,]+); go on with: storylm train --resume", printed)
    assert len(said) == 1, printed
    state = json.loads((run / "checkpoints/last/trainer_state.json").read_text())
    steps = int(said[0].replace(",", ""))
    assert state["step"] == steps == metrics(run)[-1]["step"]
    assert resume_run(run, [f"train.steps={steps + 1}"]).reason == "finished"


@pytest.mark.slow
def test_what_cannot_be_is_refused_by_one_voice_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(AssertionError) as failed:
        launch(2, [Job(str(tmp_path / "run"), ("train.batch_size=1",))])
    assert str(failed.value).count("cannot be shared by 2 processes: set train.batch_size=2") == 1
    assert not (tmp_path / "run").exists()


def test_a_process_by_itself_waits_for_no_one(monkeypatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    ranks = joined()
    assert ranks == Ranks()
    with one_voice(ranks), ranks.main_first(), ranks.leaders_first():
        assert ranks.sum_up([1, 2.5]) == ranks.highest([1, 2.5]) == [1, 2.5]
        assert ranks.share(b"data") == b"data"
        assert ranks.device("mps") == "mps"


def test_processes_that_are_started_again_do_not_mistake_the_dead_for_the_living() -> None:
    """torchrun's store outlives an attempt, and an attempt may die anywhere: here with some ranks on their way."""
    store = HashStore()
    store.set_timeout(timedelta(seconds=20))
    names = []
    for attempt in range(3):
        with ThreadPoolExecutor(4) as threads:
            half = [threads.submit(roll_call, store, rank, 4) for rank in (3, 1)]
            time.sleep(0.05 * attempt)
            half += [threads.submit(roll_call, store, rank, 4) for rank in (0, 2)]
            (name,) = {one.result() for one in half}
        names.append(name)
        for rank in (1, 3):  # of an attempt that never came about
            store.set(f"here/{rank}", f"dead-{attempt}")
    assert len(set(names)) == 3


def test_a_rank_that_does_not_come_is_missed(monkeypatch) -> None:
    monkeypatch.setattr("storylm.training.joining.ROLL_CALL_SECONDS", 0.1)
    with pytest.raises(SetupError, match="2 of the 3 processes of this run did not come"):
        roll_call(HashStore(), 0, 3)


def test_a_device_for_each_process(monkeypatch) -> None:
    third = Ranks(rank=7, local=3, size=8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [third.device(spec) for spec in ("auto", "cuda", "cpu")] == ["cuda:3", "cuda:3", "cpu"]
    for spec in ("cuda:1", "mps"):
        with pytest.raises(UsageError, match=f"train.device='{spec}' is one device, but there are 8 processes"):
            third.device(spec)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert third.device("auto") == "cpu"


def test_fsdp_says_what_it_does_not_go_with(small) -> None:
    two = Ranks(size=2)
    fsdp = small("train.parallel=fsdp")
    check_parallel(fsdp, "bf16", two)
    check_parallel(fsdp, "fp16", Ranks())
    with pytest.raises(UsageError, match=r"does not go with train\.precision=fp16"):
        check_parallel(fsdp, "fp16", two)

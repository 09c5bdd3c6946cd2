"""The Slurm script under a scheduler that runs it, sends its signals and takes note of requeueing."""

import json
import re
import sys
from pathlib import Path

import pytest

from launch.slurm import BIN, Job, Slurm, directives
from launch.waiting import PATIENCE, wait_until
from training.runs import SMALL, record_of

SCRIPT = Path(__file__).parents[2] / "examples" / "launch" / "slurm.sh"


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    """With the stand-ins for torchrun and training."""
    return Slurm(tmp_path, venv=BIN.parent)


def log_of(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def steps(first: int, last: int) -> list[str]:
    return [f"step {step}" for step in range(first, last + 1)]


def interrupted(slurm: Slurm, out: Path, *arguments: str, script: Path = SCRIPT) -> tuple[int, list[str]]:
    """Submit, let the time be up after ten steps; the exit code and what training noted."""
    job = slurm.submit(script, "story-1m", "--out", str(out), *arguments)
    wait_until(lambda: "step 10" in log_of(out))
    job.time_is_nearly_up()
    return job.wait(PATIENCE), log_of(out)


def test_a_job_that_ends_in_time_is_not_queued_again(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit(SCRIPT, "story-1m", "--out", str(tmp_path / "run"), "--steps", "5")
    assert job.wait(PATIENCE) == 0
    assert log_of(tmp_path / "run") == [*steps(1, 5), "finished"]
    assert job.requeued == 0


def test_before_the_limit_training_saves_and_the_job_is_queued_again_until_the_end(
    slurm: Slurm, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, log = interrupted(slurm, out, "--steps", "1000", "--save-seconds", "0.5")
    saved = len(log) - 1
    assert log[:-1] == steps(1, saved)
    # Slurm tells every process, torchrun tells its own.
    assert re.fullmatch(r"saved after [12] x SIGTERM", log[-1])
    assert code == 1
    again = slurm.submit(SCRIPT, "story-1m", "--out", str(out), "--steps", str(saved + 5), "--save-seconds", "0")
    assert again.wait(PATIENCE) == 0
    assert log_of(out) == [*log, *steps(saved + 1, saved + 5), "finished"]
    assert again.requeued == 1


def test_a_job_that_fails_by_itself_is_not_queued_again(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit(SCRIPT, "story-1m", "--out", str(tmp_path / "run"), "--steps", "many")
    assert job.wait(PATIENCE) == 1
    assert job.requeued == 0


def test_arguments_arrive_as_they_were(slurm: Slurm, tmp_path: Path) -> None:
    out = tmp_path / "a run with $HOME and 'quotes' in it"
    assert slurm.submit(SCRIPT, "story-1m", "--out", str(out), "--steps", "1").wait(PATIENCE) == 0
    assert log_of(out) == ["step 1", "finished"]


@pytest.mark.parametrize("wrong", ['kill -TERM "$training"', 'kill -USR1 "$training"'])
def test_signalling_srun_instead_would_save_nothing(slurm: Slurm, tmp_path: Path, wrong: str) -> None:
    """That the scheduler of these tests has teeth, and why the script is as it is."""
    text = SCRIPT.read_text()
    script = tmp_path / "wrong.sh"
    script.write_text(text.replace('scancel --signal=TERM "$SLURM_JOB_ID"', wrong))
    assert script.read_text() != text
    _, log = interrupted(slurm, tmp_path / "run", "--steps", "1000", script=script)
    assert log == steps(1, len(log))


def test_torchrun_may_wait_longer_than_it_would_but_not_longer_than_slurm(slurm: Slurm) -> None:
    seconds = re.search(r"TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)", SCRIPT.read_text())
    limit = re.fullmatch(r"B:USR1@(\d+)", directives(SCRIPT)["signal"])
    assert seconds is not None
    assert limit is not None
    assert 30 < int(seconds[1]) <= int(limit[1]) - 30


def test_slurm_may_queue_the_job_again_and_keep_its_log() -> None:
    given = directives(SCRIPT)
    assert given["requeue"] == ""
    assert given["open-mode"] == "append"
    assert given["ntasks-per-node"] == "1"  # torchrun starts the rest


@pytest.mark.slow
def test_a_real_run_interrupted_and_queued_again_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, venv=Path(sys.prefix))
    settings = {"steps": 300, "log_every": 1, "eval_every": 100, "sample_every": 0, "save_every": 0, "device": "cpu"}
    arguments = [*SMALL, "data.context=64", *(f"train.{name}={value}" for name, value in settings.items())]

    def submit(out: str) -> Job:
        return slurm.submit(SCRIPT, "story-1m", *arguments, "--out", str(tmp_path / out))

    assert submit("undisturbed").wait(PATIENCE) == 0
    job = submit("interrupted")
    metrics = tmp_path / "interrupted" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 20)
    job.time_is_nearly_up()
    assert job.wait(PATIENCE) == 1
    assert job.requeued == 1
    state = json.loads((tmp_path / "interrupted/checkpoints/last/trainer_state.json").read_text())
    assert 20 <= state["step"] < 300
    assert submit("interrupted").wait(PATIENCE) == 0
    assert job.requeued == 1
    assert record_of(tmp_path / "interrupted") == record_of(tmp_path / "undisturbed")

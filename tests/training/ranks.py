"""Runs on several processes, as torchrun starts them, and what each of them read.

As a script it is one of them, and does jobs (see `Job`), given as JSON, one after another.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
EVERY_STEP = "train.log_every=1"
# Rows of a step that neither two nor four ranks share out evenly.
LAYOUTS = {
    "packed": ("train.batch_size=6", EVERY_STEP),
    "padded": ("data.layout=padded", "train.batch_size=3", "train.accumulation=3", EVERY_STEP),
    "single rows": ("train.batch_size=1", "train.accumulation=7", "data.separate_stories=true", EVERY_STEP),
}
WRAPPERS = ("ddp", "fsdp")
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


@dataclass(frozen=True)
class Job:
    """Train in a folder, or go on there with settings changed. A signal comes to a rank (-1: the last) in a step."""

    folder: str
    settings: Sequence[str]
    resume: bool = False
    signal_at: int = -1
    signal_to: int = -1
    signal: int = signal.SIGTERM  # SIGKILL only in the first of torchrun's attempts


def script(jobs: Sequence[Job]) -> list[str]:
    """The command line, after Python's name, that does these jobs."""
    return [__file__, json.dumps([asdict(job) for job in jobs])]


def launch(ranks: int, jobs: Sequence[Job]) -> list[str]:
    """Train on so many processes; what each of them printed. torchrun's part without torchrun, which takes seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *script(jobs)]
    common = {**os.environ, **QUIET, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        printed = [process.communicate(timeout=1200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(printed)
    return printed


def torchrun(ranks: int, *command: str, restarts: int = 0) -> subprocess.Popen[str]:
    """A launch by torchrun itself of `storylm` or a script."""
    options = ("--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--monitor-interval=0.1")
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, *command],
        env={**os.environ, **QUIET},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def metrics(folder: Path, kind: str = "step") -> list[dict[str, Any]]:
    """The logged lines of this kind."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def alone(settings: Sequence[str], folder: Path) -> dict[str, Any]:
    """A run of one process, which notes the rows it reads; its validation."""
    from unittest.mock import patch

    from storylm.config.load import resolve
    from storylm.data.batches import _Batches
    from storylm.training.run import train_run
    from training.runs import SMALL

    with patch.object(_Batches, "batch", note_rows(folder)):
        result = train_run(resolve(None, None, [*SMALL, *settings]).config, folder)
    assert result.validation is not None
    return result.validation.to_json()


def same_run(one: Path, many: Path) -> float:
    """The same but for the order in which floats were added up: at most 1e-5; how much at most."""
    furthest = 0.0
    for kind, exact, close in (
        ("step", ("step", "progress", "lr", "tokens", "epoch", "skipped"), ("loss", "gradient_norm")),
        ("evaluation", ("step", "tokens", "best"), ("nats_per_token", "bits_per_byte")),
    ):
        for expected, line in zip(metrics(one, kind), metrics(many, kind), strict=True):
            assert [line[key] for key in exact] == [expected[key] for key in exact]
            furthest = max(furthest, *(abs(line[key] - expected[key]) for key in close))
    assert furthest <= 1e-5
    assert (many / "samples.md").read_text() == (one / "samples.md").read_text()
    assert (many / "config.yaml").exists()
    return furthest


def rows_read(folder: Path, ranks: int = 1) -> list[list[Any]]:
    """Of each step, the rows in the order of the ranks: their targets, without what is ignored."""
    steps: dict[int, list[Any]] = {}
    for rank in range(ranks):
        for line in Path(f"{folder}.rows-{rank}").read_text().splitlines():
            step, rows = json.loads(line)
            steps.setdefault(step, []).extend(rows)
    return [steps[step] for step in sorted(steps)]


def note_rows(folder: Path, rank: int = 0, ranks: int = 1, signal_at: int = -1, number: int = 0) -> Any:
    """In the place of `batch`: notes what is read, and that it is this rank's part; a signal comes in a step."""
    from storylm.data.batches import IGNORED, _Batches

    batch = _Batches.batch

    def noting(self: Any, step: int, micro: int = 0, own_rank: int = 0, size: int = 1) -> Any:
        assert (own_rank, size) == (rank, ranks)
        read = batch(self, step, micro, own_rank, size)
        rows = [[target for target in row if target != IGNORED] for row in read.targets_BT.tolist()]
        with Path(f"{folder}.rows-{rank}").open("a") as file:
            file.write(json.dumps([step, [row for row in rows if row]]) + "\n")
        if step == signal_at and micro == 0:
            signal.raise_signal(number)
        return read

    return noting


def main() -> None:
    from unittest.mock import patch

    from storylm.config.load import resolve
    from storylm.data.batches import _Batches
    from storylm.training.run import resume_run, train_run
    from training.runs import SMALL

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for job in [Job(**job) for job in json.loads(sys.argv[1])]:
        folder = Path(job.folder)
        again = job.signal == signal.SIGKILL and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        struck = rank == job.signal_to % ranks and not again
        noting = note_rows(folder, rank, ranks, job.signal_at if struck else -1, job.signal)
        with patch.object(_Batches, "batch", noting):
            if job.resume:
                result = resume_run(folder, job.settings)
            else:
                result = train_run(resolve(None, None, [*SMALL, *job.settings]).config, folder)
        if result.validation is None:
            assert (result.reason, result.exit_code) == ("interrupted", 128 + job.signal)
        else:
            Path(f"{folder}.result-{rank}").write_text(json.dumps(result.validation.to_json()))


if __name__ == "__main__":
    from storylm.training.joining import leave

    main()
    leave(0)

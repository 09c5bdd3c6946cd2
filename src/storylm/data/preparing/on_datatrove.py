"""Tasks handed to datatrove's executors: one pipeline step that does task number `rank`, for as many ranks as tasks.

What is done is told by the tasks' own records, with hashes, not by datatrove's marks of completion. These, its logs
and its statistics go to a folder that each call makes anew.
"""

import getpass
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor

from storylm.config.errors import DataError, SetupError, UsageError
from storylm.config.files import write_text
from storylm.data.preparing.pool import Tally, cores, main_hidden
from storylm.data.preparing.tasks import Result, Task, Tell

TELL_SECONDS = 0.5
VISIBLE_SECONDS = 90  # until a file written elsewhere is seen here: network file systems look again after a minute
FAILED = "failed"  # a folder with the error of each task that failed
_USER_ERRORS = {kind.__name__: kind for kind in (UsageError, DataError, SetupError)}


class Step:
    """The pipeline: task number `rank`. datatrove carries it to the workers."""

    def __init__(self, tasks: Sequence[Task[Any]], folder: Path):
        self.tasks, self.folder = tasks, folder

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tasks are the parallelism
        try:
            self.tasks[rank].run()
        except Exception as error:
            write_text(self.folder / FAILED / f"{rank:05}.json", json.dumps([type(error).__name__, str(error)]))
            raise


@dataclass(frozen=True)
class OnThisMachine:
    """datatrove's LocalPipelineExecutor; `workers` None: one for each core."""

    workers: int | None = None

    def run(self, tasks: Sequence[Task[Result]], size: int, work: Path, tell: Tell) -> Iterator[Result]:
        """As `tasks.Executor` says."""
        folder = work / "datatrove"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / FAILED).mkdir(parents=True)
        if tasks:
            executor = self.executor(Step(tasks, folder), len(tasks), folder)
            error = self._wait(
                executor, lambda: tell(Tally.local(), [n for n, task in enumerate(tasks) if task.record.is_file()])
            )
            if left := executor.get_incomplete_ranks(skip_completed=True):
                raise _failure(folder, left, len(tasks), error) from error
        yield from (task.result() for task in tasks)

    def executor(self, step: Step, count: int, folder: Path) -> PipelineExecutor:
        """The executor that does `count` tasks and writes to `folder`."""
        workers = min(self.workers or cores(), count)
        return LocalPipelineExecutor([step], count, workers, str(folder), skip_completed=False, start_method="spawn")

    def start(self, executor: PipelineExecutor) -> None:
        """Have all tasks done, and return then."""
        with main_hidden():
            executor.run()

    def stop(self, executor: PipelineExecutor) -> None:
        """Nobody waits any longer. Processes of this machine and tasks on Ray end with this one."""

    def _wait(self, executor: PipelineExecutor, tell: Callable[[], None]) -> Exception | None:
        """Run the executor in a thread and tell how it goes on. Gives what it raised."""
        errors: list[Exception] = []

        def run() -> None:
            try:
                self.start(executor)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(TELL_SECONDS)
                tell()
        except BaseException:
            self.stop(executor)
            raise
        return errors[0] if errors else None


@dataclass(frozen=True)
class OnSlurm(OnThisMachine):
    """datatrove's SlurmPipelineExecutor: an array job, waited for. `options` are sbatch's, by name."""

    options: dict[str, str] = field(default_factory=dict)

    def executor(self, step: Step, count: int, folder: Path) -> PipelineExecutor:
        options = {"wait": "", "mem-per-cpu": "4G", **self.options}  # --wait: sbatch returns when the job has ended
        return _ArrayJob(
            [step],
            count,
            options.pop("time"),
            options.pop("partition"),
            workers=self.workers or -1,
            job_name=f"storylm-{blake2b(str(folder).encode(), digest_size=4).hexdigest()}",
            qos="",
            env_command=f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"',
            sbatch_args=options,
            logging_dir=str(folder),
            skip_completed=False,
        )

    def start(self, executor: PipelineExecutor) -> None:
        self.stop(executor)  # what a killed `storylm prepare` has left in the queue
        executor.run()
        deadline = time.monotonic() + VISIBLE_SECONDS
        while executor.get_incomplete_ranks(skip_completed=True) and time.monotonic() < deadline:
            time.sleep(TELL_SECONDS)

    def stop(self, executor: PipelineExecutor) -> None:
        assert isinstance(executor, _ArrayJob)
        with suppress(OSError):
            subprocess.run(["scancel", "--user", getpass.getuser(), "--name", executor.job_name], check=False)


class _ArrayJob(SlurmPipelineExecutor):
    def launch_merge_stats(self) -> None:
        """No further job: nobody reads datatrove's statistics."""


@dataclass(frozen=True)
class OnRay(OnThisMachine):
    """datatrove's RayPipelineExecutor, on the cluster of `ray.init` or RAY_ADDRESS, or one started here."""

    def executor(self, step: Step, count: int, folder: Path) -> PipelineExecutor:
        return RayPipelineExecutor([step], count, self.workers or -1, logging_dir=str(folder), skip_completed=False)

    def start(self, executor: PipelineExecutor) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        executor.run()


def _failure(folder: Path, left: Sequence[int], count: int, error: Exception | None) -> Exception:
    """What to tell of tasks that were not done: what the first one that failed has said, if it came to that."""
    why = str(error) if error else ""
    for told in sorted((folder / FAILED).iterdir())[:1]:
        kind, message = json.loads(told.read_text(encoding="utf-8"))
        if kind in _USER_ERRORS:
            return _USER_ERRORS[kind](message)
        why = f"{kind}: {message}"
    return SetupError(
        f"{len(left)} of {count} tasks were not done{f' ({why})' if why else ''}: see the logs in {folder}, then run"
        " the same again, it will go on"
    )

"""The executors by name: this machine's processes, or datatrove's local, Slurm and Ray executors."""

import shutil
from collections.abc import Sequence

from storylm.config.errors import SetupError, UsageError
from storylm.data.preparing.pool import Pool
from storylm.data.preparing.tasks import Executor

EXECUTORS = ("pool", "datatrove", "slurm", "ray")
_NEEDED = ("partition", "time")  # of a Slurm job


def executor_of(name: str, workers: int | None = None, job: Sequence[str] = ()) -> Executor:
    """The executor of this name.

    Args:
        name: `pool`: processes of this machine; `datatrove`: its LocalPipelineExecutor; `slurm`: its
            SlurmPipelineExecutor, an array job for each of the two stages; `ray`: its RayPipelineExecutor, on the
            cluster that `RAY_ADDRESS` names.
        workers: tasks at once (None: as many as there are cores; on Slurm and Ray as many as they will run).
        job: `NAME=VALUE` options of sbatch, without their dashes, for `slurm`: `partition` and `time` at least.

    >>> executor_of("pool", workers=4)
    Pool(workers=4)

    Raises:
        UsageError: no such executor, or options that it does not take or lacks.
        SetupError: datatrove, Ray or Slurm is not there.
    """
    if name not in EXECUTORS:
        raise UsageError(f"no executor {name!r}: it can be {', '.join(EXECUTORS)}")
    if job and name != "slurm":
        raise UsageError(f"--job {job[0]} is for --executor slurm: leave it out")
    if name == "pool":
        return Pool(workers)
    options = _job_options(job) if name == "slurm" else {}
    try:
        from storylm.data.preparing import on_datatrove
    except ModuleNotFoundError as error:
        raise SetupError(f"--executor {name} needs datatrove: pip install 'storylm[scale]'") from error
    if name == "slurm":
        if shutil.which("sbatch") is None:
            raise SetupError("--executor slurm finds no sbatch on this machine: run it where jobs are submitted")
        return on_datatrove.OnSlurm(workers, options)
    if name == "ray":
        try:
            import ray  # noqa: F401 # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise SetupError("--executor ray needs Ray: pip install 'storylm[ray]'") from error
        return on_datatrove.OnRay(workers)
    return on_datatrove.OnThisMachine(workers)


def _job_options(job: Sequence[str]) -> dict[str, str]:
    """`["time=4:00:00", "exclusive"]` as sbatch options; one without a value has an empty one."""
    options = {}
    for option in job:
        key, _, value = option.partition("=")
        options[key.lstrip("-")] = value
    for key in _NEEDED:
        if not options.get(key):
            raise UsageError(f"--executor slurm needs {key}: add --job {key}=... (see `sinfo` for what there is)")
    return options

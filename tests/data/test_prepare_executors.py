"""Whoever does the work, a pool, datatrove, Slurm or Ray, with however many workers: the bytes are the same."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data.corpora_on_disk import contents, corpus_of
from data.slurm import fake_slurm
from storylm.config.errors import SetupError, UsageError
from storylm.config.schema import CleaningConfig
from storylm.data.parts import GrammarPart
from storylm.data.preparing.executors import executor_of
from storylm.data.preparing.pool import Pool, Tally
from storylm.data.preparing.reading import ReadTask

CHUNK_BYTES = 6000
# A process of its own: datatrove forks one, which a process with threads should not. So small chunks are set there.
SCRIPT = f"""
import sys
from storylm.data.preparing import steps
steps.CHUNK_BYTES = {CHUNK_BYTES}
from storylm.cli import main
if __name__ == "__main__":
    sys.argv[0] = "storylm"
    main()
"""
SLURM = ("--executor", "slurm", "--job", "partition=cpu", "--job", "time=1:00:00")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("executors") / "corpus", files=2, stories=20)


def prepare(
    corpus: Path, out: Path, *options: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, "prepare", str(corpus), "--out", str(out), "--vocab-size", "300"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, env=env)


@pytest.fixture(scope="module")
def whole(corpus) -> dict[str, str]:
    """What one process makes of it."""
    done = prepare(corpus, corpus.parent / "whole", "--workers", "1")
    assert done.returncode == 0, done.stderr
    files = contents(corpus.parent / "whole")
    assert sum(name.endswith(".tokens") for name in files) == 4
    return files


@pytest.mark.parametrize("workers", ["2", "4"])
def test_any_number_of_processes_gives_the_same_bytes(corpus, whole, tmp_path, workers):
    done = prepare(corpus, tmp_path / "out", "--workers", workers)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_datatrove_on_this_machine(corpus, whole, tmp_path, workers):
    pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'storylm[scale]'")
    done = prepare(corpus, tmp_path / "out", "--executor", "datatrove", "--workers", str(workers))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole


@pytest.fixture
def cluster(tmp_path) -> dict[str, str]:
    pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'storylm[scale]'")
    if os.name == "nt":
        pytest.skip("Slurm's commands are shell scripts here")
    return fake_slurm(tmp_path / "bin")


def test_slurm_runs_an_array_job_for_each_stage(corpus, whole, tmp_path, cluster):
    done = prepare(corpus, tmp_path / "out", *SLURM, "--job", "account=me", "--workers", "3", env=cluster)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole
    asked = (tmp_path / "bin" / "log").read_text().splitlines()
    arrays = [line for line in asked if "'array'" in line]
    assert "'array': '0-2%3'" in arrays[0]  # two files of train and one of validation
    assert len(arrays) == 2
    assert all("'partition': 'cpu'" in line and "'account': 'me'" in line for line in arrays)
    assert sum(line.startswith("scancel") for line in asked) == 2  # what a killed one may have left in the queue


@pytest.mark.slow
def test_a_task_that_fails_on_slurm_says_why_and_can_be_done_later(corpus, whole, tmp_path, cluster):
    # Once the sources are listed and before the job runs, one of them goes.
    sbatch = tmp_path / "bin" / "sbatch"
    good = sbatch.read_text()
    lost = str(corpus / "train-01.txt")
    sbatch.write_text(good.replace("import os,", f"import os; os.rename({lost!r}, {lost + '.lost'!r})\nimport", 1))
    try:
        done = prepare(corpus, tmp_path / "out", *SLURM, env=cluster)
        assert done.returncode == 3, done.stderr
        assert f"storylm: cannot read {lost}" in done.stderr.splitlines()[-1]
    finally:
        os.rename(lost + ".lost", lost)
    sbatch.write_text(good)
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("part.json"))]
    assert len(times) == 2  # all but the lost one's
    assert prepare(corpus, tmp_path / "out", *SLURM, env=cluster).returncode == 0
    assert contents(tmp_path / "out") == whole


def test_ctrl_c_cancels_the_job(tmp_path, cluster, monkeypatch):
    for name in ("PATH", "FAKE_SLURM_LOG"):
        monkeypatch.setenv(name, cluster[name])
    waiting = executor_of("slurm", job=["partition=cpu", "time=1:00:00"])
    ended = threading.Event()
    monkeypatch.setattr(type(waiting), "start", lambda *args: ended.wait())

    def interrupt(tally: Tally, finished: list[int]) -> None:
        raise KeyboardInterrupt

    task = ReadTask(GrammarPart(0, 0, 1), tmp_path / "part", "train", CleaningConfig(), CHUNK_BYTES)
    with pytest.raises(KeyboardInterrupt):
        list(waiting.run([task], 1, tmp_path / "work", interrupt))
    ended.set()
    assert "--name storylm-" in (tmp_path / "bin" / "log").read_text()


@pytest.mark.slow
def test_ray(corpus, whole, tmp_path):
    pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'storylm[ray]'")
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'storylm[ray]'")
    script = SCRIPT.replace(
        "    main()",
        "    import ray\n"
        "    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address='127.0.0.1')\n"
        "    main()",
    )
    command = ["prepare", str(corpus), "--out", str(tmp_path / "out"), "--vocab-size", "300", "--executor", "ray"]
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole


# -- which executor --------------------------------------------------------------------------------------


def test_what_an_executor_needs_is_told(monkeypatch):
    assert executor_of("pool", 3) == Pool(3)
    with pytest.raises(UsageError, match="no executor 'slum': it can be pool, datatrove, slurm, ray"):
        executor_of("slum")
    with pytest.raises(UsageError, match="--job partition=cpu is for --executor slurm"):
        executor_of("datatrove", job=["partition=cpu"])
    with pytest.raises(UsageError, match="needs partition: add --job partition="):
        executor_of("slurm", job=["time=1:00:00"])
    with pytest.raises(UsageError, match="needs time: add --job time="):
        executor_of("slurm", job=["partition=cpu", "time"])
    monkeypatch.delitem(sys.modules, "storylm.data.preparing.on_datatrove", raising=False)
    monkeypatch.delattr("storylm.data.preparing.on_datatrove", raising=False)
    monkeypatch.setitem(sys.modules, "datatrove.executor", None)
    with pytest.raises(SetupError, match=r"needs datatrove: pip install 'storylm\[scale\]'"):
        executor_of("datatrove")


def test_slurm_and_ray_that_are_not_there(monkeypatch, tmp_path):
    pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'storylm[scale]'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="finds no sbatch on this machine"):
        executor_of("slurm", job=["partition=cpu", "time=1:00:00"])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"needs Ray: pip install 'storylm\[ray\]'"):
        executor_of("ray")

"""Memory taken and memory left, as the system tells it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import storylm.training.memory as memory
from storylm.training.memory import available_memory

CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine with 8 GB of which 5 are available; returns a way to write its files."""

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    write("proc/meminfo", "MemTotal:        8000000 kB\nMemAvailable:    5000000 kB\nHugePages_Total:       0\n")
    return write


def test_without_limits_what_the_kernel_calls_available(system) -> None:
    assert available_memory(CPU) == 5_000_000 * 1024


@pytest.mark.parametrize(
    ("version", "line", "files"),
    [
        (
            "2",
            "0::/job/step",
            {"memory.max": "3000", "memory.current": "1200", "memory.stat": "anon 5\ninactive_file 200\n"},
        ),
        (
            "1",
            "3:cpu:/other\n4:memory:/job/step",
            {
                "memory.limit_in_bytes": "3000",
                "memory.usage_in_bytes": "1200",
                "memory.stat": "inactive_file 7\ntotal_inactive_file 200\n",
            },
        ),
    ],
)
@pytest.mark.parametrize("place", ["job/step", "job", ""])
def test_a_cgroup_at_any_height_limits(system, version, line, files, place) -> None:
    """Less what is in use, but for files that can be let go."""
    root = "cgroup/memory" if version == "1" else "cgroup"
    system("proc/self/cgroup", line + "\n")
    for name, text in files.items():
        system(f"{root}/{place}/{name}", text)
    assert available_memory(CPU) == 2000


def test_no_limit_is_no_limit_and_the_lowest_one_counts(system) -> None:
    system("proc/self/cgroup", "0::/a/b\n4:memory:/c\n")
    system("cgroup/a/b/memory.max", "max\n")
    system("cgroup/a/b/memory.current", "10\n")
    system("cgroup/memory/c/memory.limit_in_bytes", "9223372036854771712\n")
    system("cgroup/memory/c/memory.usage_in_bytes", "10\n")
    assert available_memory(CPU) == 5_000_000 * 1024
    for group, limit in (("a", 900), ("a/b", 4000)):
        system(f"cgroup/{group}/memory.max", f"{limit}\n")
        system(f"cgroup/{group}/memory.current", "100\n")
    assert available_memory(CPU) == 800


def test_more_in_use_than_allowed_leaves_nothing(system) -> None:
    system("proc/self/cgroup", "0::/\n")
    system("cgroup/memory.max", "100\n")
    system("cgroup/memory.current", "120\n")
    assert available_memory(CPU) == 0


def test_processes_of_one_launch_share(system, monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_memory(CPU) == 1_250_000 * 1024


def test_a_system_that_does_not_tell(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert available_memory(CPU) is None


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak in /proc")
def test_the_peak_is_the_most_ever_and_stays() -> None:
    """In a process of its own: what another test has freed may be taken anew without more being in use."""
    script = """if True:
        import numpy as np, torch
        from storylm.training.memory import peak_memory
        before = peak_memory(torch.device("cpu"))
        array = np.ones(200_000_000, np.uint8)
        with_it = peak_memory(torch.device("cpu"))
        assert before + 100_000_000 < with_it < before + 230_000_000, (before, with_it)
        del array
        assert abs(peak_memory(torch.device("cpu")) - with_it) < 2**20
    """
    subprocess.run([sys.executable, "-c", script], check=True)

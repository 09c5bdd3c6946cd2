"""Room for runs: what is idle, shared out."""

import os

import pytest

from storylm.config.errors import UsageError
from storylm.training.sweep import places
from storylm.training.sweep.places import Places, find_places, idle_cores, usable_cores, usable_gpus


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.6, 9.0, 9.0), raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_auto_is_a_run_on_each_core_that_is_idle(monkeypatch) -> None:
    assert (usable_cores(), idle_cores()) == (8, 5)
    assert find_places("auto") == Places(5, cores=5)
    assert find_places("auto").environment(4)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setattr(os, "getloadavg", lambda: (30.0, 9.0, 9.0))
    assert find_places("auto").jobs == 1


def test_cores_that_may_be_used_are_shared_out(monkeypatch) -> None:
    assert find_places("3").environment(0) == {"OMP_NUM_THREADS": "2"}
    assert find_places("1").environment(0) == {}
    assert find_places("9").environment(8) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert find_places("3").environment(0) == {"OMP_NUM_THREADS": "6"}


def test_each_run_has_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert usable_gpus() == ("0", "1")
    assert find_places("auto").jobs == 2
    assert [find_places("auto").environment(at)["CUDA_VISIBLE_DEVICES"] for at in (0, 1)] == ["0", "1"]
    assert [find_places("3").environment(at)["CUDA_VISIBLE_DEVICES"] for at in (0, 1, 2)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert find_places("2").environment(1)["CUDA_VISIBLE_DEVICES"] == "7"
    assert find_places("auto", ("cpu",)) == Places(5, cores=5)
    assert "CUDA_VISIBLE_DEVICES" not in find_places("2", ("cuda:1",)).environment(0)


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5", ""])
def test_what_is_no_number_of_jobs(jobs: str) -> None:
    with pytest.raises(UsageError, match=r"--jobs .* it is 1 or more, or auto"):
        find_places(jobs)
    assert places.Places(1).cores == 8

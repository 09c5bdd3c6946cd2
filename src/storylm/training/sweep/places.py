"""Room for runs at a time: how many this machine has, and the threads or the GPU of each."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from storylm.config.errors import UsageError


@dataclass(frozen=True)
class Places:
    """Room for `jobs` runs; more than one share out `cores` and, in turns, `gpus`, as CUDA_VISIBLE_DEVICES has them."""

    jobs: int
    cores: int = field(default_factory=lambda: usable_cores())
    gpus: tuple[str, ...] = ()

    def environment(self, place: int) -> Mapping[str, str]:
        """What a run in place number `place` is told of it; what the user says stands over it.

        >>> dict(Places(3, cores=8, gpus=("0", "1")).environment(2))
        {'OMP_NUM_THREADS': '2', 'CUDA_VISIBLE_DEVICES': '0'}
        """
        if self.jobs == 1:
            return {}
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, self.cores // self.jobs))
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {}
        return {"OMP_NUM_THREADS": threads, **gpu}


def find_places(jobs: str, devices: tuple[str, ...] = ("auto",)) -> Places:
    """Room for as many runs as said; "auto": one on each GPU, or else on each core that is idle now.

    `devices` are what the runs have for `train.device`: where one names a device, GPUs are not shared out.

    Raises:
        UsageError: neither a number from 1 on nor "auto".
    """
    if jobs != "auto" and not (jobs.isdecimal() and int(jobs) >= 1):
        raise UsageError(f"--jobs {jobs} is not allowed: it is 1 or more, or auto")
    gpus = () if jobs == "1" or set(devices) - {"auto", "cuda"} else usable_gpus()
    if jobs != "auto":
        return Places(int(jobs), gpus=gpus)
    return Places(len(gpus), gpus=gpus) if gpus else Places(idle := idle_cores(), cores=idle)


def usable_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def idle_cores() -> int:
    """Those of them that nobody used in the last minute, by the system's load; one at least."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
    return max(1, usable_cores() - round(load))


def usable_gpus() -> tuple[str, ...]:
    """The names of CUDA's devices that this process may use, for CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    allowed = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple((allowed or [str(number) for number in range(count)])[:count])

"""How much memory a run has taken, and how much there is to take. In bytes."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
UNLIMITED = 2**60  # what cgroups of version 1 say for "no limit" is beyond


def peak_memory(device: torch.device) -> int | None:
    """The most that this process has had in use at once: of the GPU's memory on CUDA, else of the machine's.

    On a GPU what tensors took, not what torch holds in reserve. None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()  # now; Apple keeps no record of the most
    status = _fields(PROC / "self" / "status")
    if "VmHWM" in status:  # not getrusage: that counts the process this one was forked from
        return status["VmHWM"]
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_memory(device: torch.device) -> int | None:
    """What this process can still take without swapping or being killed; None where the system does not tell.

    On Linux the least of what the kernel calls available and what the limits of the cgroups (containers, Slurm
    jobs) leave. Processes of one launch on one machine (torchrun) have an equal share each.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [*_cgroup_room()]
    if "MemAvailable" in (meminfo := _fields(PROC / "meminfo")):
        free.append(meminfo["MemAvailable"])
    return min(free) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if free else None


def _cgroup_room() -> Iterator[int]:
    """Limit less use of every memory cgroup around this process, of version 1 or 2, that has a limit."""
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, limit, use, inactive = CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root = CGROUPS / "memory"
            limit, use, inactive = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = root / place.lstrip("/")
        # Inside a container the place may be named as the host sees it: then only the root is there.
        for folder in (group, *group.parents):
            most, used = _number(folder / limit), _number(folder / use)
            if most is not None and used is not None and most < UNLIMITED:
                # Files that were read and are not in use are let go before anything is killed.
                yield max(0, most - used + _fields(folder / "memory.stat").get(inactive, 0))
            if folder == root:
                break


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # "max"
        return None


def _fields(path: Path) -> dict[str, int]:
    """Lines of "name: number kB" or "name number" as bytes."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    words = [line.replace(":", " ").split() for line in lines]
    return {
        name: int(number) * (1024 if unit == ["kB"] else 1)
        for name, number, *unit in (each for each in words if len(each) >= 2)
        if number.isdigit()
    }

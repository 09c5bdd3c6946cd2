"""What a result was measured on."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "transformers", "accelerate", "liger-kernel", "triton", "numpy")
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str) -> dict[str, Any]:
    """Processor, its instructions for matrices, cores, and the GPU where one was used."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    fields = [line.partition(":") for line in text.split("\n\n")[0].splitlines()]
    named = {key.strip(): value.strip() for key, _, value in fields}
    flags = named.get("flags", "").split()
    about = {
        "processor": named.get("model name", platform.processor() or platform.machine()),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    if device != "cpu":
        import torch

        about["gpu"] = torch.cuda.get_device_name()
    return about


def other_machine(rows: Iterable[dict[str, Any]]) -> bool:
    """Whether any of the rows was measured on another processor than this one, or with another number of its cores."""
    here = machine("cpu")
    there = [row["machine"] for row in rows if "machine" in row]
    return any(each.get(key) != here[key] for each in there for key in ("processor", "instructions", "cores"))


class Stolen:
    """How much of the processors' time other machines on the same host were given, from its beginning on."""

    def __init__(self, stat: Path = Path("/proc/stat")):
        self._stat = stat
        self._before = self._seen()

    def share(self) -> float | None:
        """Between 0 and 1; None where the system does not say."""
        now = self._seen()
        if self._before is None or now is None:
            return None
        stolen, whole = (after - before for after, before in zip(now, self._before, strict=True))
        return stolen / whole if whole else 0.0

    def _seen(self) -> tuple[int, int] | None:
        """Ticks stolen, and all of them."""
        if not self._stat.is_file():
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal; guests, which follow, are in user already
        ticks = [int(field) for field in self._stat.read_text(encoding="ascii").split("\n")[0].split()[1:9]]
        return ticks[7], sum(ticks)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of the packages that take part, those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit(folder: Path = ROOT) -> str | None:
    """The checked-out commit of `folder`, with "+" where files were changed since; None where it is no checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "--short=10", "HEAD")
    return None if head is None else head + ("+" if git("status", "--porcelain", "--", "src") else "")

"""manifest.json of a run folder: which software, on which machine, with which stories, and when."""

import json
import os
import platform
import subprocess
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import storylm
from storylm.config.errors import DataError
from storylm.config.files import sha256, write_text
from storylm.data.prepared import SPLITS
from storylm.model import native

if TYPE_CHECKING:
    from storylm.data.prepare import Prepared

MANIFEST = "manifest.json"


def write_manifest(folder: Path, prepared: "Prepared") -> None:
    """Add this start of the run in `folder` to its manifest, which keeps all of them under "sessions".

    Raises `DataError` where the tokenizer is another than when the run began: to the model, the same text
    would be other tokens. Other stories only bring a warning.
    """
    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": _software(),
        "machine": _machine(),
        "kernels": native.available(torch.device("cpu")),
        "data": sha256(prepared.folder / MANIFEST),
        "tokenizer": prepared.tokenizer.fingerprint,
        "stories": {split: _stories(prepared, split) for split in SPLITS},
    }
    sessions = _earlier_sessions(folder / MANIFEST)
    if sessions:
        _compare(sessions[-1], session, folder)
    write_text(folder / MANIFEST, json.dumps({"schema": 1, "sessions": [*sessions, session]}, indent=1) + "\n")


def _earlier_sessions(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["sessions"])
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path} is damaged ({error}): what it said about earlier sessions is lost", stacklevel=3)
        return []


def _compare(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    if before.get("tokenizer") != now["tokenizer"]:
        raise DataError(
            f"the run in {folder} began with another tokenizer (fingerprint {str(before.get('tokenizer'))[:12]}, now "
            f"{now['tokenizer'][:12]}): bring the old one back, or start anew with --fresh"
        )
    if before.get("data") != now["data"]:
        warnings.warn(
            f"the run in {folder} began with other stories than are there now: it is not repeatable", stacklevel=3
        )
    if before.get("kernels", now["kernels"]) != now["kernels"]:
        with_or_without = "with" if before["kernels"] else "without"
        warnings.warn(
            f"the run in {folder} began {with_or_without} the kernels in C++ and goes on otherwise: on a CPU, numbers "
            f"differ in their last digits (is there a C++ compiler? is STORYLM_NATIVE set?)",
            stacklevel=3,
        )


def _stories(prepared: "Prepared", split: str) -> dict[str, Any]:
    """How much there is of a split, and how many stories each rule of cleaning dropped."""
    dropped = {name: rule.dropped for name, rule in prepared.report(split).rules.items() if rule.dropped}
    counts = {"stories": prepared.stories(split), "tokens": prepared.tokens(split), "bytes": prepared.bytes(split)}
    return counts | {"dropped": dropped}


def _software() -> dict[str, str | None]:
    return {
        "storylm": storylm.__version__,
        "git": _commit(Path(storylm.__file__).parent),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"platform": platform.platform(), "cpu": _cpu(), "cores": os.cpu_count(), "gpus": gpus}


def device_name(device: torch.device) -> str:
    """What computes, in a few words, as in "Some CPU, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu()}, {torch.get_num_threads()} threads" if device.type == "cpu" else f"{_cpu()} ({device.type})"


def _cpu() -> str:
    """The processor's name; only Linux keeps it where it can be read without a subprocess."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit(folder: Path) -> str | None:
    """The commit that the code in `folder` is of, with "-dirty" where it has changed since; None without git."""
    # An installed package may lie inside a repository of someone else's: only one that tracks it counts.
    if _git(folder, "ls-files", "__init__.py"):
        return _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None

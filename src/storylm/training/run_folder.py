"""The folder of a run: whose it is, what may be written to it, and what its settings were."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from storylm.config.errors import CheckpointError, SetupError, UsageError
from storylm.config.load import from_yaml, to_yaml
from storylm.config.schema import RunConfig
from storylm.data.corpora import CORPORA
from storylm.data.sources import existing

LOCK = ".lock"
NOT_YET_A_RUN = {LOCK, "manifest.json"}  # all there is if a crash came before config.yaml was written


def check_run_folder(folder: Path, config: RunConfig, fresh: bool) -> None:
    """Refuse a folder that is not for this run: a file, other things, or (unless `fresh`) a run with other settings."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose another --out")
    saved = saved_config(folder)
    if saved is None and folder.exists() and {path.name for path in folder.iterdir()} - NOT_YET_A_RUN:
        raise UsageError(f"{folder} is not empty and holds no run (no config.yaml in it): choose another --out")
    if saved is not None and saved != config and not fresh:
        raise UsageError(
            f"{folder} holds a run with other settings ({differences(saved, config)}): choose another --out, "
            f"go on with it by --resume {folder}, or start anew with --fresh"
        )


@contextmanager
def sole_writer(folder: Path, fresh: bool) -> Iterator[None]:
    """The folder is there, and ours alone until the block ends; `fresh` empties it first.

    Raises:
        SetupError: it cannot be written to.
        UsageError: another process trains in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another process is training in {folder}: wait for it, or choose another --out") from None
    except OSError as error:
        raise SetupError(f"cannot write to {folder}: {error.strerror or error}; choose another --out") from error
    try:
        if fresh:
            # config.yaml last: while it stands, the folder is known for a run and can be deleted again.
            for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.yaml"):
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raises `SetupError` where the disk is full or fails in the block."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"cannot write to {folder}: {error.strerror or error}; put that right (is the disk full?) and run again"
        ) from error


def saved_config(folder: Path) -> RunConfig | None:
    """The settings of the run in `folder`; None where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        return None
    try:
        return from_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def differences(before: RunConfig, now: RunConfig) -> str:
    """The first settings that differ, in words."""
    old, new = flat_settings(before), flat_settings(now)
    changed = [f"{key}: {old[key]} there, {new[key]} here" for key in old if old[key] != new[key]]
    return "; ".join(changed[:3]) + ("; ..." if len(changed) > 3 else "")


def flat_settings(config: RunConfig) -> dict[str, Any]:
    """Every setting by its name with dots, as YAML has it.

    >>> flat_settings(RunConfig())["optim.lr"]
    0.001
    """
    return dict(_flatten(yaml.safe_load(to_yaml(config))))


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same settings with local files named from the root, so that the run goes on from any working folder."""
    return _with_files(config, Path.absolute)


def portable_settings(config: RunConfig) -> dict[str, Any]:
    """As `flat_settings`, with only the names of local files: the same wherever they lie."""
    return flat_settings(_with_files(config, lambda path: path.name))


def _with_files(config: RunConfig, name_of: Callable[[Path], object]) -> RunConfig:
    """The same settings, local files named otherwise."""

    def named(spec: str | None) -> str | None:
        name, mark, options = (spec or "").partition("?")
        if not name or name in CORPORA or name == "grammar" or (path := existing(name)) is None:
            return spec
        return f"{name_of(path)}{mark}{options}"

    data = {"source": named(config.data.source), "validation": named(config.data.validation)}
    return config.model_copy(update={"tokenizer": named(config.tokenizer), "data": config.data.model_copy(update=data)})


def _flatten(tree: dict, prefix: str = "") -> list[tuple[str, object]]:
    leaves: list[tuple[str, object]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves += _flatten(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return leaves

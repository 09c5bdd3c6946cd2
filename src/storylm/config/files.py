"""Files written so that a crash cannot hurt: a temporary name in the same folder, fsync, rename, fsync the folder.

Whoever reads sees either what was there before or all of what is there now.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".tmp-"  # names that start like this are leftovers of a crash and may be deleted


def expanded(path: str | Path) -> Path:
    """The path with `~` as the home folder; the `~nobody` of no one here is a name like any other."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path).absolute()  # so that no one stumbles over its `~` again


def cache_folder() -> Path:
    """`STORYLM_CACHE`, or `.cache/storylm` in the home folder. Whatever is in it may be deleted."""
    given = os.environ.get("STORYLM_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "storylm"


def sync_folder(folder: Path) -> None:
    """Make names created in and renamed inside `folder` durable (Windows cannot open folders: nothing to do)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the contents of a closed file durable."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_tree(folder: Path) -> None:
    """Make a folder durable with everything in it."""
    for path in folder.rglob("*"):
        (sync_folder if path.is_dir() else sync_file)(path)
    sync_folder(folder)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` if the block ends well and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{path.name}.{os.getpid()}"
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all, with LF line ends on every system."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path`, replacing what was there, if the block ends well.

    Where a folder is replaced there is an instant between two renames in which `path` does not exist and
    the old one stands beside it as `.tmp-<name>.old`; after a crash there, `recover_folder` puts that right.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    temporary = path.parent / f"{TEMPORARY}{path.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        if path.exists():
            os.replace(path, _old(path))
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        recover_folder(path)


def recover_folder(path: Path) -> None:
    """Undo a failure between the two renames of `atomic_folder`; delete the old folder where the new one stands."""
    old = _old(path)
    if old.exists() and not path.exists():
        os.replace(old, path)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Put right what crashes left in `folder`: old folders come back where the new one is missing, the rest goes.

    Not while someone else may be writing there.
    """
    for old in folder.glob(f"{TEMPORARY}*.old"):
        recover_folder(folder / old.name.removeprefix(TEMPORARY).removesuffix(".old"))
    for leftover in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """`target` becomes a hard link to `source`, costing no space, or a copy where the file system has no links.

    Only for files that are never written in place.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _old(path: Path) -> Path:
    return path.parent / f"{TEMPORARY}{path.name}.old"


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Where prepared stories are kept for the next run, and how two runs at once keep out of each other's way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storylm.config.errors import SetupError

LOCK = ".lock"


@contextmanager
def to_be_written(folder: Path) -> Iterator[None]:
    """A `SetupError` if what is done here to `folder` is refused by the system."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error


@contextmanager
def locked(folder: Path, waiting: str = "") -> Iterator[None]:
    """Only one process at a time is in here for `folder`. A crash leaves no lock behind.

    `waiting` is printed on stderr if another process is.

    Raises:
        SetupError: the folder cannot be made or written to.
    """
    import sys

    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    with to_be_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()

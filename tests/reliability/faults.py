"""A disk on which any one operation fails: as `crashes.Disk`, and each write to an open file counts as well."""

from collections.abc import Callable
from typing import Any

from training.crashes import Disk


class FaultyDisk(Disk):
    """Fails once, at number `fails_at`, and works again: a full disk of which someone else frees a part."""

    def __init__(self, fails_at: int, error: Callable[[], BaseException]):
        super().__init__(fails_at, error, dead=False)

    def _open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        opened = super()._open(function)

        def guarded(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            stream = opened(file, mode, *arguments, **options)
            return _Faulty(stream, self) if mode[0] in "wax" else stream

        return guarded


class _Faulty:
    """A file half of whose write goes well where it is to fail."""

    def __init__(self, stream: Any, disk: FaultyDisk):
        self._stream, self._disk = stream, disk

    def write(self, data: Any) -> Any:
        if self._disk._fails("write"):
            self._stream.write(data[: len(data) // 2])
            raise self._disk.error()
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "_Faulty":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

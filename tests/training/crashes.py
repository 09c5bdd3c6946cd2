"""A process that dies, or a disk that fails, at the n-th thing it does to the disk."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import storylm.training.state as state_module


class Crash(BaseException):
    """The power is gone: no `except OSError` sees it, and no clean-up gets anything done."""


class Disk:
    """Counts what changes the disk and fails at number `fails_at`; `dead` ones fail ever after.

    A file whose writing fails is there, but only in part. `fsync` does nothing but count: no test cuts the power.
    """

    def __init__(self, fails_at: int, error: Callable[[], BaseException], *, dead: bool = True):
        self.fails_at, self.error, self.dead = fails_at, error, dead
        self.calls: list[str] = []

    @property
    def failed(self) -> bool:
        return len(self.calls) > self.fails_at

    def _fails(self, name: str) -> bool:
        self.calls.append(name)
        return self.failed if self.dead else len(self.calls) == self.fails_at + 1

    def _guard(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if self._fails(name):
                raise self.error()
            return function(*arguments, **options)

        return guarded

    def _open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode[0] in "wax" and self._fails("open"):
                if len(self.calls) == self.fails_at + 1:
                    function(file, "wb").close()
                raise self.error()
            return function(file, mode, *arguments, **options)

        return guarded

    def _save_file(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(tensors: Any, path: Path, **options: Any) -> None:
            fails = self._fails("save_file")
            if not fails or len(self.calls) == self.fails_at + 1:
                function(tensors, path, **options)
            if fails:
                if path.exists():
                    os.truncate(path, path.stat().st_size // 2)
                raise self.error()

        return guarded

    @contextmanager
    def at_work(self) -> Iterator["Disk"]:
        changes = ("replace", "rename", "link", "unlink", "rmdir", "mkdir")
        saves = patch.object(state_module, "save_file", self._save_file(state_module.save_file))
        files = patch.multiple(io, open=self._open(io.open))
        calls = {name: self._guard(name, getattr(os, name)) for name in changes}
        with saves, files, patch.multiple(os, **calls, fsync=self._guard("fsync", lambda descriptor: None)):
            yield self

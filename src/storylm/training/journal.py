"""A text file that grows entry by entry, and that a resumed run continues as if nothing had happened."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from storylm.config.errors import SetupError
from storylm.config.files import write_text
from storylm.training.records import Observer


class Entry(NamedTuple):
    """Some whole lines of the file, about one step. No two entries about a step have the same `key`."""

    step: int
    key: str
    text: str


class Journal(Observer):
    """Keeps entries in `path`. A run without its record is worth little, so one that cannot write stops.

    `first_step` is the step that the run goes on from: what an interrupted run wrote about later ones is
    dropped when the first entry comes, and so is the half of an entry that a crash left. An entry told again,
    as a run does that died between telling and saving, is not written again. Raises `SetupError` where the
    disk is full or fails.
    """

    essential = True
    header = ""

    def __init__(self, path: Path, first_step: int):
        self.path, self.first_step = path, first_step
        self._file: FileIO | None = None
        self._newest, self._keys = -1, set[str]()  # the keys of the newest step only: steps never go back

    @abstractmethod
    def entries(self, text: str) -> Iterable[Entry]:
        """The whole entries in the text of such a file."""

    def write(self, entry: Entry) -> None:
        """Append an entry; it is in the hands of the operating system when this returns."""
        with self._explained():
            file = self._file or self._open()
            if self._is_new(entry):
                rest = memoryview(entry.text.encode("utf-8", "replace"))
                while rest:
                    rest = rest[file.write(rest) or 0 :]

    def before_checkpoint(self) -> None:
        """Make durable what was written."""
        if self._file is not None:
            with self._explained():
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with self._explained():
                self._file.close()

    def _open(self) -> FileIO:
        there = self.path.read_bytes() if self.path.exists() else None
        kept = [entry for entry in self.entries((there or b"").decode("utf-8", "replace")) if self._stays(entry)]
        text = self.header + "".join(entry.text for entry in kept)
        if text.encode() != there:
            write_text(self.path, text)
        # Unbuffered: nothing is lost with the process, and a full disk shows at once, not at some later flush.
        self._file = self.path.open("ab", buffering=0)
        return self._file

    def _stays(self, entry: Entry) -> bool:
        return entry.step <= self.first_step and self._is_new(entry)

    def _is_new(self, entry: Entry) -> bool:
        if entry.step != self._newest:
            self._newest, self._keys = entry.step, set()
        new = entry.key not in self._keys
        self._keys.add(entry.key)
        return new

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SetupError(
                f"cannot write {self.path}: {error.strerror or error}. The run stops here; put that right (is the "
                f"disk full?) and run again to go on from the last checkpoint"
            ) from error

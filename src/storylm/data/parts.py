"""Parts: what one process reads, of a file or of the grammar."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from storylm.config.errors import DataError
from storylm.data.formats import Reading, read_records
from storylm.data.hub import HubFile
from storylm.data.records import Record


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file as it was when the source was opened."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "LocalFile":
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        return cls(path.resolve(), stat.st_size, stat.st_mtime_ns)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def identity(self) -> str:
        """Another one when the file was written again."""
        return f"file:{self.path}@{self.size},{self.modified_ns}"

    def local(self) -> Path:
        return self.path


@dataclass(frozen=True, slots=True)
class FilePart:
    """The `piece`-th of `pieces` equal pieces of a file, which together hold each of its records once."""

    file: LocalFile | HubFile
    reading: Reading
    piece: int = 0
    pieces: int = 1

    @property
    def key(self) -> str:
        how = self.reading
        return f"{self.file.identity}|{how.column}|{how.separator}|{how.rows}|{self.piece}/{self.pieces}"

    @property
    def size(self) -> int | None:
        """Bytes as stored; None for some rows of a file."""
        if self.file.size is None or self.reading.rows is not None:
            return None
        return self.file.size * (self.piece + 1) // self.pieces - self.file.size * self.piece // self.pieces

    def __iter__(self) -> Iterator[Record]:
        return read_records(self.file.local(), self.file.name, self.reading, self.piece, self.pieces)


@dataclass(frozen=True, slots=True)
class GrammarPart:
    """Stories `start` .. `start + count - 1` of the built-in grammar with this seed."""

    seed: int
    start: int
    count: int

    @property
    def key(self) -> str:
        from storylm.data.grammar import story

        # The first story stands for the grammar's version: another grammar tells another.
        version = blake2b(story(self.seed, self.start).encode(), digest_size=8).hexdigest()
        return f"grammar:{self.seed}:{self.start}+{self.count}@{version}"

    @property
    def size(self) -> None:
        return None

    def __iter__(self) -> Iterator[Record]:
        from storylm.data.grammar import story

        for index in range(self.start, self.start + self.count):
            yield Record(story(self.seed, index))

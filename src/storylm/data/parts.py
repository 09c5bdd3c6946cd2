"""`Source`: a corpus, its splits, and their parts: what one process reads, of a file or of the grammar."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from storylm.config.errors import DataError
from storylm.data.formats import Reading, format_of, read_records
from storylm.data.hub import HubFile
from storylm.data.parquet import need_pyarrow
from storylm.data.records import Record


class Part(Protocol):
    """An independent piece of a split: what one process reads. Picklable, streams in bounded memory."""

    @property
    def key(self) -> str:
        """Changes when what is read changes: path, size and time of a file, hash of a Hub's file, seed."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes as stored; None where there is no telling."""
        ...

    def __iter__(self) -> Iterator[Record]: ...


@dataclass(frozen=True)
class Source:
    """A corpus: its name, and the parts of each split in order."""

    name: str
    by_split: dict[str, tuple[Part, ...]]

    @property
    def splits(self) -> tuple[str, ...]:
        """`train`, `validation`, `test`: those there are. A single file is `train`."""
        return tuple(self.by_split)

    def parts(self, split: str) -> list[Part]:
        """The split's independent pieces, in order.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.by_split:
            raise DataError(
                f"{self.name} has no split {split!r}: it has {', '.join(self.splits)}"
                + ("; a file that is named itself, not its folder, is train" if split == "train" else "")
            )
        return list(self.by_split[split])

    def bytes(self, split: str) -> int | None:
        """The split's size as stored, for progress; None where there is no telling."""
        sizes = [part.size for part in self.parts(split)]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def stories(self, split: str) -> Iterator[Record]:
        """The split's records, part after part.

        Raises:
            DataError: the split has not a single record.
        """
        empty = True
        for part in self.parts(split):
            for record in part:
                empty = False
                yield record
        if empty:
            raise DataError(f"{self.name} has no stories in its {split} split")


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
        if (format_of(self.file.name) or ("",))[0] == ".parquet":
            need_pyarrow(self.file.name)  # before a download, not after it
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

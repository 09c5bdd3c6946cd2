"""File formats: from bytes to records. Streaming, in bounded memory; what cannot be read is a record with a problem.

stories.parquet   stories.jsonl   stories.json   stories.txt, each also .gz, .xz, .zst; .tar, .tar.gz, ... of them
"""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from storylm.data.json_records import read_json, read_json_lines
from storylm.data.parquet import read_parquet
from storylm.data.records import Record
from storylm.data.streams import DAMAGE, DECOMPRESSORS, DamagedFileError, chunks, open_file
from storylm.data.text_records import read_text

FORMATS = (".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".tar")
DAMAGED = DamagedFileError.problem
MAX_UNPACKED_BYTES = 4 * 2**30
"""Of a compressed parquet file, which has to be unpacked to disk: parquet is compressed by itself."""
_SHORT = {".tgz": ".tar.gz", ".txz": ".tar.xz", ".tzst": ".tar.zst"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read, where its name does not say it.

    `column`: where the story is (None: text, story or content). `separator` of text files: endoftext, blank, line
    (None: as the file shows). `rows`: only rows start..stop-1 of a parquet file, stop None: to the end.
    """

    column: str | None = None
    separator: str | None = None
    rows: tuple[int, int | None] | None = None


def format_of(name: str) -> tuple[str, str] | None:
    """Format and compression by a file's name; None for other files.

    >>> format_of("TinyStories_all_data.tar.gz"), format_of("a.txt"), format_of("a.png")
    (('.tar', '.gz'), ('.txt', ''), None)
    """
    name = name.lower()
    for short, long in _SHORT.items():
        name = name.removesuffix(short) + long if name.endswith(short) else name
    compression = next((end for end in DECOMPRESSORS if end and name.endswith(end)), "")
    name = name.removesuffix(compression)
    return next(((kind, compression) for kind in FORMATS if name.endswith(kind)), None)


def can_split(name: str) -> bool:
    """Whether pieces of such a file can be read independently."""
    return format_of(name) in ((".txt", ""), (".jsonl", ""), (".ndjson", ""), (".parquet", ""))


def read_records(path: Path, name: str, reading: Reading, piece: int = 0, pieces: int = 1) -> Iterator[Record]:
    """The records of one file, or of piece `piece` of `pieces`, which together are the whole, each record once.

    Raises:
        DataError: the file cannot be opened, or is not one of stories.
    """
    with open_file(path) as stream:
        try:
            yield from _read_stream(stream, name, reading, (piece, pieces))
        except DamagedFileError as error:
            yield Record(None, error.problem, where=f"{name}: {error}")


def _read_stream(stream: IO[bytes], name: str, reading: Reading, share: tuple[int, int] = (0, 1)) -> Iterator[Record]:
    kind, compression = format_of(name) or (".txt", "")
    stream = DECOMPRESSORS[compression](stream)
    if kind == ".tar":
        yield from _read_archive(stream, name, reading)
    elif kind == ".parquet":
        with _seekable(stream) as file:
            yield from read_parquet(file, name, reading.column, reading.rows, share)
    elif kind == ".json":
        yield from read_json(stream, name, reading.column)
    elif kind == ".txt":
        yield from read_text(stream, name, reading.separator, share)
    else:
        yield from read_json_lines(stream, name, reading.column, share)


def _read_archive(stream: IO[bytes], name: str, reading: Reading) -> Iterator[Record]:
    """Members in turn. Nothing is ever written under a member's name, so it matters not where that points."""
    reported = False
    try:
        archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - `stream` is closed by its opener
        for member in archive:
            archive.members = []  # pyright: ignore - else the headers of all members stay in memory
            reported = False
            where = f"{name}: {member.name}"
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                yield Record(None, "archive member that is no file", where=where)
            elif (format_of(member.name) or (".tar", ""))[0] == ".tar":
                yield Record(None, "archive member of unknown kind", where=where)
            else:
                try:
                    yield from _read_stream(content, member.name, reading)
                except DamagedFileError as error:
                    reported = True
                    yield Record(None, error.problem, where=f"{where}: {error}")
    except DAMAGE as error:
        if not reported:  # else the last member already was cut where the archive is
            raise DamagedFileError(str(error) or type(error).__name__) from error


def _seekable(stream: IO[bytes]) -> IO[bytes]:
    """Parquet begins at its end: a compressed one is written to a temporary file first."""
    if type(stream) is io.BufferedReader:  # neither decompressed nor in an archive
        return stream
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        for chunk in chunks(stream):
            if file.tell() > MAX_UNPACKED_BYTES:
                raise DamagedFileError(f"unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB: unpack it beforehand")
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file

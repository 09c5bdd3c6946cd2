"""Bytes of a file, whatever it is compressed with, in pieces of bounded size; and bytes to text.

A damaged file (cut, or with flipped bits) gives all that can be read before it raises `DamagedFileError`.
"""

import codecs
import gzip
import lzma
import re
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from storylm.config.errors import DataError
from storylm.data.records import MAX_STORY_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 2**17
DECOMPRESSORS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    "": lambda stream: stream,
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),  # pyright: ignore
    ".xz": lambda stream: lzma.LZMAFile(stream),  # noqa: SIM115
    ".zst": lambda stream: zstd.ZstdFile(stream),  # pyright: ignore
}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zstd.ZstdError, tarfile.TarError)
"""What reading a damaged file raises, whichever way it is compressed."""


class DamagedFileError(Exception):
    """The rest of a file cannot be read."""

    problem = "file is cut or damaged"


class WideTextError(DamagedFileError):
    """Text of two or four bytes a character."""

    problem = "UTF-16 text: convert it to UTF-8"


def open_file(path: Path) -> IO[bytes]:
    """The file, or a `DataError` that says why not."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream's bytes, at most `CHUNK_BYTES` at a time."""
    # read1 returns what is there; read would lose the bytes before the damage.
    read = getattr(stream, "read1", stream.read)
    first = True
    while True:
        try:
            chunk = read(CHUNK_BYTES)
        except DAMAGE as error:
            raise DamagedFileError(str(error) or type(error).__name__) from error
        if not chunk:
            return
        if first and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise WideTextError("it begins with a byte-order mark of UTF-16")
        first = False
        yield chunk


def look_ahead(pieces: Iterator[bytes], wanted: bytes, limit: int) -> tuple[bool, Iterator[bytes]]:
    """Whether `wanted` stands in the first `limit` bytes; and the pieces, none of them lost."""
    seen = bytearray()
    found = False
    damage = None
    try:
        while not found and len(seen) < limit:
            piece = next(pieces, b"")
            if not piece:
                break
            found = wanted in seen[-len(wanted) :] + piece
            seen += piece
    except DamagedFileError as error:
        damage = error

    def replay() -> Iterator[bytes]:
        yield bytes(seen)
        if damage:
            raise damage
        yield from pieces

    return found, replay()


def delimited(pieces: Iterator[bytes], separator: bytes, offset: int = 0) -> Iterator[tuple[int, bytes | None, bool]]:
    """What stands between separators: (offset of its first byte, bytes, whether a separator ends it).

    Bytes are None where there are more than `MAX_STORY_BYTES`: they are passed over, never held.

    >>> list(delimited(iter([b"a;b", b"c;"]), b";"))
    [(0, b'a', True), (2, b'bc', True), (5, b'', False)]
    """
    held = b""
    passed_over = 0
    for piece in pieces:
        # Search the new bytes only, and what a separator cut in two may have left before them.
        *complete, rest = _split_after(held, piece, separator)
        for record in complete:
            too_long = passed_over or len(record) > MAX_STORY_BYTES
            yield offset, None if too_long else record, True
            offset += passed_over + len(record) + len(separator)
            passed_over = 0
        held = rest
        if len(held) > MAX_STORY_BYTES:
            keep = len(separator) - 1
            passed_over += len(held) - keep
            held = held[len(held) - keep :]
    yield offset, None if passed_over else held, False


def _split_after(held: bytes, piece: bytes, separator: bytes) -> list[bytes]:
    seam = held[max(0, len(held) - len(separator) + 1) :]
    if separator not in seam + piece:
        return [held + piece]
    return (held + piece).split(separator)


REPAIRED = "bytes that are not UTF-8, repaired"
_BAD_BYTES = re.compile("[\udc80-\udcff]+")
_CUT_CHARACTER = re.compile(b"[\xc2-\xf4][\x80-\xbf]+")


def decode(raw: bytes) -> tuple[str, str | None]:
    """The text of UTF-8 bytes, and `REPAIRED` if some were not.

    Single bad bytes are read as windows-1252, in which such text was most likely written; what is left of a cut
    UTF-8 character becomes U+FFFD.

    >>> decode(b"It\\x92s a caf\\xe9.")
    ('It’s a café.', 'bytes that are not UTF-8, repaired')
    """
    try:
        return raw.decode("utf-8"), None
    except UnicodeDecodeError:
        return repair_escaped(raw.decode("utf-8", "surrogateescape"))


def repair_escaped(text: str) -> tuple[str, str | None]:
    """The same for text decoded with `surrogateescape`."""

    def repair(match: re.Match[str]) -> str:
        raw = match[0].encode("utf-8", "surrogateescape")
        return "".join(
            "\ufffd" if _CUT_CHARACTER.fullmatch(part) else part.decode("cp1252", "replace")
            for part in re.split(b"([\xc2-\xf4][\x80-\xbf]+)", raw)
        )

    repaired = _BAD_BYTES.sub(repair, text)
    return repaired, REPAIRED if repaired != text else None

"""Stories in text files, and the fields of TinyStories-Instruct's records."""

import re
from collections.abc import Iterator
from typing import IO

from storylm.config.errors import UsageError
from storylm.data.records import ENDOFTEXT, MAX_STORY_BYTES, Record
from storylm.data.streams import chunks, decode, delimited, look_ahead

SEPARATORS = ("endoftext", "blank", "line")
TOO_LONG = f"longer than {MAX_STORY_BYTES // 2**20} MiB"
EMPTY = "empty story"
MANY_LINES = 20  # without an empty one, where nothing but these could part stories
UNPARTED = "long text without an empty line: if each line is a story, add ?separator=line to the file's name"
_LOOK_AHEAD_BYTES = 4 * 2**20
_FIELDS = ("Features:", "Words:", "Summary:", "Random sentence:", "Story:")
_STORY = re.compile("^Story:", re.MULTILINE)
_FIELD = re.compile(rf"^({'|'.join(_FIELDS)})[ \t]*", re.MULTILINE)


def story_record(text: str, problem: str | None = None, where: str = "") -> Record:
    """A story as it stands, or that of a TinyStories-Instruct record, whose other parts become fields.

    >>> record = story_record("Words: quit, oak\\nSummary: A tree.\\nStory: \\n\\nOnce there was a tree.")
    >>> record.text, record.fields
    ('Once there was a tree.', {'words': 'quit, oak', 'summary': 'A tree.'})
    """
    if not text.strip():
        return Record(None, EMPTY, where=where)
    plain = text.lstrip("\ufeff \t\r\n")
    if not plain.startswith(_FIELDS) or not _STORY.search(plain):
        return Record(text, problem, where=where if problem else "")
    fields: dict[str, str] = {}
    _, *parts = _FIELD.split(plain)
    for label, value in zip(parts[::2], parts[1::2], strict=True):
        name = label.rstrip(":").lower()
        fields[name] = f"{fields[name]}\n{value.strip()}" if name in fields else value.strip()
    if not (story := fields.pop("story")):
        return Record(None, EMPTY, fields, where)
    return Record(story, problem, fields, where if problem else "")


def read_text(stream: IO[bytes], name: str, separator: str | None, share: tuple[int, int]) -> Iterator[Record]:
    """Stories parted by `<|endoftext|>` or, where none stands in the first 4 MiB, by empty lines.

    Stories of TinyStories V1 contain empty lines, so `<|endoftext|>` goes before. `share` (i, n): only the records
    that begin in the i-th of n equal parts of the file; the stream must be seekable if n > 1.
    """
    if separator not in (None, *SEPARATORS):
        raise UsageError(f"unknown separator {separator!r}: use one of {', '.join(SEPARATORS)}")
    source = chunks(stream)
    guessed = separator is None
    if separator is None:
        found, source = look_ahead(source, ENDOFTEXT.encode(), _LOOK_AHEAD_BYTES)
        separator = "endoftext" if found else "blank"
    if separator == "blank":
        records = _paragraphs(source) if share[0] == 0 else iter(())  # cannot be shared: the first takes it all
    else:
        mark = b"\n" if separator == "line" else ENDOFTEXT.encode()
        records = shared(stream, source, mark, share)
    for offset, raw, ended in records:
        where = f"{name}, byte {offset}"
        unparted = guessed and separator == "blank" and (raw is None or raw.strip().count(b"\n") >= MANY_LINES)
        if raw is None:
            yield Record(None, UNPARTED if unparted else TOO_LONG, where=where)
            continue
        # Nothing before the first separator, after the last, or in an empty line is no story, not an empty one.
        if not raw.strip() and (separator != "endoftext" or not ended or offset == 0):
            continue
        text, problem = decode(raw)
        yield story_record(text.strip("\r\n"), UNPARTED if unparted else problem, where)


def shared(
    stream: IO[bytes], source: Iterator[bytes], separator: bytes, share: tuple[int, int]
) -> Iterator[tuple[int, bytes | None, bool]]:
    """`delimited`, but only what begins in the i-th of n equal parts of the file."""
    piece, pieces = share
    if pieces == 1:
        yield from delimited(source, separator)
        return
    size = stream.seek(0, 2)
    start, end = size * piece // pieces, size * (piece + 1) // pieces
    # A record that begins at `start` has its separator just before: begin there, and leave out the first, which
    # began earlier.
    position = max(0, start - len(separator))
    stream.seek(position)
    records = delimited(chunks(stream), separator, position)
    if start > 0:
        next(records)
    for record in records:
        if record[0] >= end:
            return
        yield record


def _paragraphs(source: Iterator[bytes]) -> Iterator[tuple[int, bytes | None, bool]]:
    """What stands between empty lines, as `delimited` gives it."""
    lines: list[bytes] = []
    begin = size = 0
    for offset, line, _ in delimited(source, b"\n"):
        if line is not None and not line.strip():
            if size:
                yield begin, b"\n".join(lines) if size <= MAX_STORY_BYTES else None, True
            lines, size = [], 0
            continue
        begin = begin if size else offset
        size += MAX_STORY_BYTES + 1 if line is None else len(line) + 1
        if size <= MAX_STORY_BYTES and line is not None:
            lines.append(line)
    if size:
        yield begin, b"\n".join(lines) if size <= MAX_STORY_BYTES else None, False

"""Stories in JSON: one object a line, or one array (the shards of TinyStories_all_data), read object by object."""

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from storylm.data.records import MAX_STORY_BYTES, Record
from storylm.data.streams import chunks, decode, repair_escaped
from storylm.data.text_records import TOO_LONG, shared, story_record

TEXT_COLUMNS = ("text", "story", "content")
MALFORMED = "malformed JSON"
_BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")
_NEXT_OBJECT = re.compile(r"\}\s*,?\s*(?=\{)")
_BAD = object()
_LONG = object()


def value_record(value: Any, column: str | None = None, where: str = "", problem: str | None = None) -> Record:
    """The record of one JSON value: an object with a text column, or the story itself.

    >>> value_record({"story": "Once.", "source": "GPT-4"})
    Record(text='Once.', problem=None, fields={'source': 'GPT-4'}, where='')
    >>> value_record({"text": None}, where="a.jsonl, byte 0").problem
    'text is null'
    """
    fields: Mapping[str, Any] = {}
    name = column or "text"
    if isinstance(value, Mapping):
        name = column or next((name for name in TEXT_COLUMNS if name in value), None)
        if name is None or name not in value:
            tried = column or ", ".join(TEXT_COLUMNS)
            return Record(None, f"no column {tried}: name the story's with ?column=", where=where)
        fields = {key: other for key, other in value.items() if key != name}
        value = value[name]
    if not isinstance(value, str):
        kind = "null" if value is None else f"{type(value).__name__}, not a string"
        return Record(None, f"{name} is {kind}", fields, where)
    if len(value) > MAX_STORY_BYTES:
        return Record(None, TOO_LONG, fields, where)
    record = story_record(value, problem, where)
    return Record(record.text, record.problem, {**fields, **record.fields}, record.where)


def read_json_lines(stream: IO[bytes], name: str, column: str | None, share: tuple[int, int]) -> Iterator[Record]:
    """One JSON value a line; empty lines are passed over. `share` as in `read_text`."""
    for offset, raw, _ in shared(stream, chunks(stream), b"\n", share):
        where = f"{name}, byte {offset}"
        if raw is None:
            yield Record(None, TOO_LONG, where=where)
        elif raw.strip():
            line, problem = decode(raw.removeprefix(codecs.BOM_UTF8) if offset == 0 else raw)
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                yield Record(None, MALFORMED, where=where)
            else:
                yield value_record(value, column, where, problem)


def read_json(stream: IO[bytes], name: str, column: str | None) -> Iterator[Record]:
    """The elements of one array, or values one after the other, of which at most one is held at a time."""
    for index, value in enumerate(json_values(_text(chunks(stream)))):
        where = f"{name}, record {index}"
        if value is _BAD or value is _LONG:
            yield Record(None, MALFORMED if value is _BAD else TOO_LONG, where=where)
            continue
        record = value_record(value, column, where)
        if record.text is not None and not record.text.isascii():
            text, problem = repair_escaped(record.text)
            record = Record(text, problem or record.problem, record.fields, where if problem else record.where)
        yield record


def _text(source: Iterator[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for raw in source:
        yield decoder.decode(raw)
    yield decoder.decode(b"", final=True)


def json_values(source: Iterator[str]) -> Iterator[Any]:
    """Values of a JSON array, or concatenated ones; `_BAD` and `_LONG` stand for what is passed over.

    >>> list(json_values(iter(['[{"a": 1}, {"b', '": [2]}]'])))
    [{'a': 1}, {'b': [2]}]
    """
    parser = json.JSONDecoder()
    text, position, more = "", 0, True
    while True:
        position = _BETWEEN.match(text, position).end()  # pyright: ignore - it matches the empty string
        value, failed_at, cut = _BAD, position, position == len(text)
        if not cut:
            try:
                value, end = parser.raw_decode(text, position)
                cut = end == len(text) and more and not isinstance(value, dict | list | str)  # 12|34
            except json.JSONDecodeError as error:
                failed_at = error.pos
                # An error near the end of what is here, or a string without end, may only need more text.
                cut = failed_at > len(text) - 12 or error.msg.startswith("Unterminated string")
            except (ValueError, RecursionError):
                pass
            else:
                if not cut:
                    yield value
                    position = end
                    continue
        if cut and more and len(text) - position <= MAX_STORY_BYTES:
            text, more = _extend(text[position:], source)
            position = 0
            continue
        if position == len(text):
            return
        yield _LONG if cut and more else _BAD
        text, position, more = _next_object(text, failed_at, source, more)


def _extend(text: str, source: Iterator[str]) -> tuple[str, bool]:
    """Twice as much text, so that a long value is not parsed anew for each chunk; and whether there is more."""
    parts, size = [text], 0
    for part in source:
        parts.append(part)
        size += len(part)
        if size >= len(text):
            return "".join(parts), True
    return "".join(parts), False


def _next_object(text: str, position: int, source: Iterator[str], more: bool) -> tuple[str, int, bool]:
    """After a value that cannot be parsed: where the next object probably begins."""
    while True:
        found = _NEXT_OBJECT.search(text, position)
        if found:
            return text, found.end(), more
        if not more:
            return "", 0, False
        text, position = text[max(position, len(text) - 100) :], 0
        part = next(source, None)
        text, more = text + (part or ""), part is not None

"""Dirty corpora: each kind of dirt with the reason it should be counted under, and random damage to clean files."""

import gzip
import io
import json
import lzma
import random
import sys
import tarfile
import time
from pathlib import Path

from reliability.lives import Tell
from storylm.config.errors import DataError
from storylm.config.schema import CleaningConfig
from storylm.data.cleaning import Cleaner
from storylm.data.formats import Reading, read_records
from storylm.data.records import ENDOFTEXT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS = {
    "": lambda raw: raw,
    ".gz": lambda raw: gzip.compress(raw, 1),
    ".xz": lambda raw: lzma.compress(raw, preset=0),
    ".zst": lambda raw: zstd.compress(raw, 1),
}
CONTROL_TOKENS = (ENDOFTEXT, "<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "[INST]")


def tell(number: int) -> str:
    """A clean story unlike the others."""
    return f"Once there was a cat number {number}. “Meow”, it said, {number * number} times. The End."


STORIES = [tell(number) for number in range(200)]


def as_text(stories: list[str]) -> bytes:
    return f"\n{ENDOFTEXT}\n".join(stories).encode()


def as_lines(values: list) -> bytes:
    return "\n".join(json.dumps({"text": value}) for value in values).encode()


def as_parquet(values: list) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": values}), file, row_group_size=50)
    return file.getvalue()


def as_archive(members: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "../../../../etc/passwd"
            archive.addfile(entry)
    return file.getvalue()


def corpora(megabytes: int) -> dict[str, tuple[str, bytes, str | None]]:
    """Kinds of dirt: the name of a file, its bytes, and the problem or rule that counts it (None: it is no problem).

    One story is of so many megabytes.
    """
    few = STORIES[:3]
    lines = as_lines(STORIES)
    return {
        "mojibake": ("a.txt", tell(1).encode().decode("cp1252", "replace").encode(), "mojibake"),
        "bad UTF-8": ("a.txt", "Once there was a café. It was closed all day.".encode("latin-1"), "bytes that are not"),
        "byte-order mark": ("a.jsonl", as_lines(["\ufeff" + tell(2), tell(3)]), "control"),
        "CRLF": ("a.txt", as_text(["Once upon a time.\r\n\r\nThere was a cat in a hat.", tell(17)]), "whitespace"),
        "NUL": ("a.jsonl", as_lines([tell(4) + "\0", tell(5)]), "control"),
        "lone surrogates": ("a.jsonl", as_lines(["\ud83d" + tell(6)]), "control"),
        "empty": ("a.txt", as_text([tell(7), " ", tell(8)]), "empty story"),
        "a long story": ("a.jsonl", as_lines([(tell(9) + " ") * (megabytes * 2**20 // 70), tell(10)]), None),
        "too long a story": ("a.jsonl", as_lines(["x" * (20 * 2**20), tell(11)]), "longer than 16 MiB"),
        "literal control tokens": (
            "a.jsonl",
            as_lines([f"{tell(i)} {t} So." for i, t in enumerate(CONTROL_TOKENS)]),
            None,
        ),
        "null": ("a.jsonl", as_lines([None, tell(12)]), "text is null"),
        "a number": ("a.jsonl", as_lines([7, tell(13)]), "text is int, not a string"),
        "a list": ("a.json", json.dumps([{"text": ["Once"]}, {"text": tell(14)}]).encode(), "text is list"),
        "null in parquet": ("a.parquet", as_parquet([None, tell(15)]), "text is null"),
        "numbers in parquet": ("a.parquet", as_parquet([1, 2]), "text is int, not a string"),
        "no such column": ("a.jsonl", b'{"title": "Cat"}\n' + as_lines(few), "no column text, story, content"),
        "malformed JSON": ("a.jsonl", b'{"text": "Once\n' + as_lines(few), "malformed JSON"),
        "truncated gzip": ("a.jsonl.gz", gzip.compress(lines)[:-300], "file is cut or damaged"),
        "truncated xz": ("a.jsonl.xz", lzma.compress(lines)[:-300], "file is cut or damaged"),
        "truncated zst": ("a.jsonl.zst", zstd.compress(lines)[:-300], "file is cut or damaged"),
        "truncated parquet": ("a.parquet", as_parquet(STORIES)[:-300], "file is cut or damaged"),
        "truncated archive": ("a.tar", as_archive({"a.jsonl": lines})[: len(lines) // 2], "file is cut or damaged"),
        "traversal": (
            "a.tar",
            as_archive({"../../outside.txt": few[0].encode(), "/outside.txt": few[1].encode()}),
            None,
        ),
        "links in an archive": (
            "a.tar",
            as_archive({"a.txt": few[2].encode()}, ("b.txt",)),
            "archive member that is no",
        ),
        "UTF-16": ("a.txt", tell(16).encode("utf-16"), "UTF-16 text"),
    }


WRITERS = {
    ".txt": as_text,
    ".jsonl": as_lines,
    ".json": lambda stories: json.dumps([{"story": story} for story in stories]).encode(),
    ".parquet": as_parquet,
    ".tar": lambda stories: as_archive({"0.jsonl": as_lines(stories[:99]), "1.txt": as_text(stories[99:])}),
}


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """Some bytes overwritten, cut out, cut off, or put in."""
    data = bytearray(raw)
    for _ in range(chance.randrange(1, 4)):
        place, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 4, 64, 1000))
        kind = chance.randrange(5)
        if kind == 0:
            del data[place:]
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = chance.randbytes(length)
        else:
            data[place : place + length] = chance.randbytes(len(data[place : place + length]))
    return bytes(data)


def read_damaged(told: Tell, folder: Path, count: int, seed: int) -> None:
    """Read so many damaged files. Tells "read" (n, name, what came of it, seconds); before each, "reads"."""
    chance = random.Random(seed)
    whole = {kind: write(STORIES) for kind, write in WRITERS.items()}
    for number in range(count):
        kind, compression = chance.choice(list(WRITERS)), chance.choice(list(COMPRESS))
        path = folder / f"stories{kind}{compression}"
        path.write_bytes(damaged(COMPRESS[compression](whole[kind]), chance))
        told("reads", number, path.name)
        began = time.monotonic()
        cleaner = Cleaner(CleaningConfig(near_duplicates=False))
        try:
            stories = list(cleaner.clean(read_records(path, path.name, Reading())))
            assert cleaner.report.kept == len(stories)
            outcome = "told" if cleaner.report.problems else "whole" if stories == STORIES else "altered"
            for story in stories:
                story.encode()  # raises for what could not be written
        except DataError:
            outcome = "told"
        except Exception as error:
            outcome = f"crashed: {error!r}"
        told("read", number, path.name, outcome, time.monotonic() - began)
        path.unlink()

"""Bytes in pieces of bounded size: separators cut in two, damage, and bytes that are not UTF-8."""

import gzip
import io
import lzma
from itertools import pairwise

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from storylm.config.errors import DataError
from storylm.data import streams
from storylm.data.streams import (
    DECOMPRESSORS,
    REPAIRED,
    DamagedFileError,
    chunks,
    decode,
    delimited,
    look_ahead,
    open_file,
    repair_escaped,
)

COMPRESS = {"": lambda raw: raw, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}


@settings(deadline=None)
@given(raw=st.text("ab<|>", max_size=60), cuts=st.lists(st.integers(0, 60)), mark=st.sampled_from(["<|>", "a", "ab"]))
def test_delimited_is_split_wherever_the_pieces_are_cut(raw, cuts, mark):
    raw, mark = raw.encode(), mark.encode()
    bounds = [0, *sorted(cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(bounds)]
    found = list(delimited(iter(pieces), mark))
    assert [record for _, record, _ in found] == raw.split(mark)
    assert [ended for *_, ended in found] == [True] * raw.count(mark) + [False]
    for offset, record, _ in found:
        assert raw[offset : offset + len(record)] == record


@pytest.mark.parametrize("mark", [b";", b"<|endoftext|>"])
def test_a_record_without_end_is_passed_over_and_never_held(monkeypatch, mark):
    monkeypatch.setattr(streams, "MAX_STORY_BYTES", 100)
    raw = b"first" + mark + b"x" * 1000 + mark + b"last"
    pieces = [raw[i : i + 7] for i in range(0, len(raw), 7)]
    found = list(delimited(iter(pieces), mark))
    assert found == [
        (0, b"first", True),
        (5 + len(mark), None, True),
        (1005 + 2 * len(mark), b"last", False),
    ]
    assert list(delimited(iter([b"y" * 60] * 9), mark)) == [(0, None, False)]


@settings(deadline=None)
@given(before=st.integers(0, 40), limit=st.integers(1, 40), size=st.integers(1, 9))
def test_look_ahead_loses_nothing_and_reads_no_further_than_it_must(before, limit, size):
    raw = b"." * before + b"MARK" + b"." * 20
    taken = []

    def pieces():
        for start in range(0, len(raw), size):
            taken.append(start)
            yield raw[start : start + size]

    found, replay = look_ahead(pieces(), b"MARK", limit)
    assert found == (before + 4 <= -(-limit // size) * size)
    assert len(taken) <= -(-limit // size)
    assert b"".join(replay) == raw


@pytest.mark.parametrize("kind", COMPRESS)
def test_chunks_are_small_and_make_up_the_whole(kind):
    raw = bytes(range(256)) * 4000
    parts = list(chunks(DECOMPRESSORS[kind](io.BytesIO(COMPRESS[kind](raw)))))
    assert b"".join(parts) == raw
    assert max(map(len, parts)) <= streams.CHUNK_BYTES


@pytest.mark.parametrize("kind", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "bits"])
def test_what_stands_before_the_damage_is_read(kind, damage):
    raw = b"".join(b"%d is a number. " % (i * i * 7919 % 100_003) for i in range(60_000))
    packed = bytearray(COMPRESS[kind](raw))
    at = len(packed) * 3 // 4
    if damage == "cut":
        del packed[at:]
    else:
        packed[at : at + 50] = bytes(byte ^ 0xFF for byte in packed[at : at + 50])
    got = b""
    with pytest.raises(DamagedFileError):  # noqa: PT012 - what came before the error counts
        for chunk in chunks(DECOMPRESSORS[kind](io.BytesIO(packed))):
            got += chunk
    assert raw[: len(got)] == got or damage == "bits"
    assert len(got) > len(raw) // 4


@pytest.mark.parametrize("kind", [".gz", ".xz", ".zst"])
def test_a_file_that_is_not_what_its_name_says(kind):
    with pytest.raises(DamagedFileError):
        list(chunks(DECOMPRESSORS[kind](io.BytesIO(b"Once upon a time, there was a plain file."))))


def test_open_file_says_why_not(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*no\.txt: No such file"):
        open_file(tmp_path / "no.txt")
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        open_file(tmp_path)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Äpfel “für” 😀".encode(), "Äpfel “für” 😀"),
        (b"It\x92s caf\xe9", "It’s café"),  # windows-1252
        ("“Hi”".encode() + b" \x93Hi\x94", "“Hi” “Hi”"),  # both in one file
        (b"cut \xe2\x80 off", "cut \ufffd off"),  # two of a quote's three bytes
        (b"no \x81 such byte", "no \ufffd such byte"),
    ],
)
def test_bytes_that_are_not_utf8_are_repaired_and_said_to_be(raw, text):
    try:
        raw.decode()
        problem = None
    except UnicodeDecodeError:
        problem = REPAIRED
    assert decode(raw) == (text, problem)
    assert repair_escaped(raw.decode("utf-8", "surrogateescape")) == (text, problem)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_decode_takes_any_bytes(raw):
    text, problem = decode(raw)
    text.encode()
    assert (problem is None) == (raw.decode("utf-8", "replace").encode() == raw)

"""Files of every format and compression, streamed in bounded memory; archives; damaged files."""

import gzip
import io
import json
import lzma
import os
import tarfile
import tracemalloc

import pytest
from backports import zstd

from storylm.config.errors import DataError
from storylm.data import formats, streams
from storylm.data.formats import DAMAGED, Reading, can_split, format_of, read_records
from storylm.data.records import ENDOFTEXT, Record

STORIES = [f"Once there was a cat number {i}.\n\n“Meow”, it said {i * i} times." for i in range(300)]
COMPRESS = {
    "": lambda raw: raw,
    ".gz": lambda raw: gzip.compress(raw, 1),
    ".xz": lambda raw: lzma.compress(raw, preset=0),
    ".zst": lambda raw: zstd.compress(raw, 1),
}
READING = Reading()


def parquet(stories, column="text") -> bytes:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(stories))), column: stories}), file, row_group_size=100)
    return file.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def text(stories) -> bytes:
    return f"\n{ENDOFTEXT}\n".join(stories).encode()


WRITERS = {
    ".txt": text,
    ".jsonl": lambda stories: "\n".join(json.dumps({"text": story}) for story in stories).encode(),
    ".ndjson": lambda stories: "\n".join(json.dumps({"story": story}) for story in stories).encode(),
    ".json": lambda stories: json.dumps([{"story": story, "instruction": {"words": []}} for story in stories]).encode(),
    ".parquet": parquet,
    ".tar": lambda stories: tar({"data/00.jsonl": WRITERS[".jsonl"](stories[:99]), "data/01.txt": text(stories[99:])}),
}


def read(path, reading=READING, **pieces) -> list[Record]:
    return list(read_records(path, path.name, reading, **pieces))


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_with_every_compression(tmp_path, kind, compression):
    path = tmp_path / f"stories{kind}{compression}"
    path.write_bytes(COMPRESS[compression](WRITERS[kind](STORIES)))
    records = read(path)
    assert [record.text for record in records] == STORIES
    assert not any(record.problem for record in records)
    assert os.listdir(tmp_path) == [path.name]  # nothing unpacked beside it


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A.TXT.GZ", (".txt", ".gz")),
        ("a.tgz", (".tar", ".gz")),
        ("a.txz", (".tar", ".xz")),
        ("a.tzst", (".tar", ".zst")),
        ("a.b.tar.zst", (".tar", ".zst")),
        ("a.gz", None),
        ("txt", None),
        ("a.csv", None),
        ("a.txt.bz2", None),
    ],
)
def test_format_of(name, expected):
    assert format_of(name) == expected
    assert can_split(name) is False


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".ndjson", ".parquet"])
@pytest.mark.parametrize("pieces", [2, 3, 7])
def test_pieces_of_a_file_are_the_whole_in_order(tmp_path, kind, pieces):
    path = tmp_path / f"stories{kind}"
    path.write_bytes(WRITERS[kind](STORIES))
    assert can_split(path.name)
    parts = [read(path, piece=piece, pieces=pieces) for piece in range(pieces)]
    assert [record.text for part in parts for record in part] == STORIES
    assert sum(map(bool, parts)) >= 2


class Counting(io.BytesIO):
    """A file that counts the bytes taken from it."""

    taken = 0

    def read(self, size=-1):
        found = super().read(size)
        self.taken += len(found)
        return found

    def read1(self, size=-1):
        return self.read(size)

    def readinto(self, buffer):
        size = super().readinto(buffer)
        self.taken += size
        return size


@pytest.mark.parametrize("kind", [".txt.gz", ".jsonl.xz", ".json.zst", ".tar.gz"])
def test_a_large_file_is_streamed(monkeypatch, tmp_path, kind):
    name = f"stories{kind}"
    form, compression = format_of(name)
    stories = [os.urandom(1500).hex() + "." for _ in range(2000)]  # 6 MB that hardly compress
    raw = COMPRESS[compression](WRITERS[form](stories))
    file = Counting(raw)
    monkeypatch.setattr(formats, "open_file", lambda path: file)
    records = read_records(tmp_path / name, name, READING)
    assert next(records).text == stories[0]
    assert file.taken < len(raw) / 5
    # Read to the end, one record at a time: never more than a few chunks are held.
    tracemalloc.start()
    count = 1 + sum(1 for _ in records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == len(stories)
    assert peak < 3.5 * 2**20


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_cut_file_gives_what_it_holds_and_is_counted(tmp_path, kind, compression):
    path = tmp_path / f"stories{kind}{compression}"
    raw = COMPRESS[compression](WRITERS[kind]([story + os.urandom(99).hex() for story in STORIES]))
    path.write_bytes(raw[: len(raw) * 2 // 3])
    records = read(path)
    assert [record.problem for record in records if record.problem].count(DAMAGED) == 1
    assert records[-1].text is None
    assert path.name in records[-1].where
    if kind != ".parquet" and compression == ".gz":
        assert len(records) >= 100


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst", ""])
@pytest.mark.parametrize("kind", [".parquet", ".tar"])
def test_a_file_of_another_kind_than_its_name_says(tmp_path, kind, compression):
    path = tmp_path / f"stories{kind}{compression}"
    path.write_bytes(b"<html>Not found, dear reader, whatever you were looking for.</html>" * 20)
    (record,) = read(path)
    assert (record.text, record.problem) == (None, DAMAGED)
    assert path.name in record.where


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none\.txt"):
        read(tmp_path / "none.txt")


# Archives


def test_members_are_never_written_whatever_they_are_called(tmp_path):
    outside = tmp_path / "outside.txt"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("../../outside.txt", str(outside), "good.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(b"One story.")
            archive.addfile(entry, io.BytesIO(b"One story."))
        for name, kind in (
            ("link.txt", tarfile.SYMTYPE),
            ("hard.txt", tarfile.LNKTYPE),
            ("pipe.txt", tarfile.FIFOTYPE),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        folder = tarfile.TarInfo("folder.txt")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    path = tmp_path / "in" / "bad.tar"
    path.parent.mkdir()
    path.write_bytes(file.getvalue())
    records = read(path)
    assert [record.text for record in records] == ["One story."] * 3 + [None] * 3
    assert {record.problem for record in records[3:]} == {"archive member that is no file"}
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_members_of_other_kinds_are_counted_and_compressed_ones_read(tmp_path):
    path = tmp_path / "mixed.tar"
    path.write_bytes(
        tar(
            {
                "README.md": b"Read me.",
                "inner.tar": tar({"a.txt": b"Never read."}),
                "a.txt.gz": gzip.compress(b"One."),
                "cut.txt.gz": gzip.compress(os.urandom(9999))[:5000],
                "b.json": b'[{"story": "Two."}]',
                "c.parquet": parquet(["Three."]),
            }
        )
    )
    records = read(path)
    assert [record.text for record in records if record.text and len(record.text) < 9] == ["One.", "Two.", "Three."]
    problems = [(record.problem, record.where.split(": ")[1]) for record in records if record.text is None]
    assert problems == [
        ("archive member of unknown kind", "README.md"),
        ("archive member of unknown kind", "inner.tar"),
        (DAMAGED, "cut.txt.gz"),
    ]


def test_an_archive_of_many_members_is_not_held_in_memory(tmp_path):
    path = tmp_path / "many.tar"
    path.write_bytes(tar({f"{i}.txt": b"A story." for i in range(3000)}))
    tracemalloc.start()
    assert sum(1 for _ in read_records(path, path.name, READING)) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_bomb_is_read_in_bounded_memory_and_a_parquet_one_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"\0" * 2**25))
    monkeypatch.setattr(streams, "MAX_STORY_BYTES", 2**20)
    tracemalloc.start()
    records = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.text for record in records] == [None]
    assert peak < 12 * 2**20  # what is looked through for a separator, and the longest story that is read
    monkeypatch.setattr(formats, "MAX_UNPACKED_BYTES", 2**20)
    path = path.rename(tmp_path / "bomb.parquet.gz")
    (record,) = read(path)
    assert record.problem == DAMAGED
    assert "unpack it beforehand" in record.where

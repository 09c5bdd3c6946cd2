"""Parquet: the text column, rows, row groups, and what may stand in a cell."""

import io
import sys

import pytest

from storylm.config.errors import DataError, SetupError
from storylm.data.formats import DAMAGED, Reading, read_records
from storylm.data.hub import HubFile
from storylm.data.parquet import read_parquet
from storylm.data.parts import FilePart
from storylm.data.records import ENDOFTEXT
from storylm.data.streams import REPAIRED

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def file(columns: dict, **options) -> io.BytesIO:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    out.seek(0)
    return out


def read(stream, column=None, rows=None, share=(0, 1)):
    return list(read_parquet(stream, "a.parquet", column, rows, share))


TEXTS = [f"Story {i}." for i in range(25)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_kinds_of_text_columns(kind):
    records = read(file({"other": [1] * 25, "text": pa.array(TEXTS).cast(kind)}))
    assert [record.text for record in records] == TEXTS


def test_rows_across_row_groups():
    def made():
        return file({"text": TEXTS}, row_group_size=10)

    assert [record.text for record in read(made(), rows=(7, 22))] == TEXTS[7:22]
    assert [record.text for record in read(made(), rows=(20, None))] == TEXTS[20:]
    assert read(made(), rows=(25, None)) == []
    shared = [record for i in range(4) for record in read(made(), rows=(7, None), share=(i, 4))]
    assert [record.text for record in shared] == TEXTS[7:]


def test_columns_by_name():
    assert read(file({"content": ["c"], "story": ["s"]}))[0].text == "s"
    assert read(file({"text": ["t"], "body": ["b"]}), column="body")[0].text == "b"
    with pytest.raises(DataError, match=r"a.parquet has no column body: .* \?column=, one of text, id"):
        read(file({"text": ["t"], "id": [1]}), column="body")
    with pytest.raises(DataError, match="no column text or story or content"):
        read(file({"id": [1]}))


def test_what_is_no_story_is_counted():
    records = read(file({"text": pa.array(["One.", None, "", f"A {ENDOFTEXT} b."])}))
    assert [record.text for record in records] == ["One.", None, None, f"A {ENDOFTEXT} b."]
    assert [record.problem for record in records] == [None, "text is null", "empty story", None]
    assert records[1].where == "a.parquet, row 1"
    assert read(file({"text": [1, 2]}))[0].problem == "text is int, not a string"


def test_bytes_that_are_not_utf8():
    # pyarrow writes a string column without looking at its bytes.
    damaged = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"], pa.binary()).buffers())
    (record,) = read(file({"text": damaged}))
    assert (record.text, record.problem) == ("café", REPAIRED)


def test_a_damaged_page_ends_the_file_and_is_counted(tmp_path):
    raw = bytearray(file({"text": [f"{i} " * 50 for i in range(2000)]}, row_group_size=500).getvalue())
    raw[len(raw) // 2 : len(raw) // 2 + 400] = b"\xff" * 400
    path = tmp_path / "a.parquet"
    path.write_bytes(raw)
    records = list(read_records(path, path.name, Reading()))
    assert records[0].text is not None
    assert any(record.problem == DAMAGED for record in records) or any(record.problem == REPAIRED for record in records)


def test_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"pip install 'storylm\[parquet\]'"):
        read(io.BytesIO())


def test_pyarrow_is_asked_for_before_a_download(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    file = HubFile("owner/name", "abc", "data/train.parquet", 10, "def")
    monkeypatch.setattr(HubFile, "local", lambda self: pytest.fail("downloaded"))
    with pytest.raises(SetupError, match=r"train\.parquet is parquet: reading it needs pyarrow"):
        list(FilePart(file, Reading()))

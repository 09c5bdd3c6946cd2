"""A task that is done is not done again, unless a single bit of what it has written is another one."""

import json
import shutil
from pathlib import Path

import pytest

from data.corpora_on_disk import contents, corpus_of
from storylm.data.prepare import prepare
from storylm.data.preparing import choosing, encoding, reading, steps
from storylm.data.preparing import tokenizer as tokenizers
from storylm.data.preparing.tasks import is_done, read_record, write_record


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(steps, "CHUNK_BYTES", 4000)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus, the same prepared, and with all done but the end."""
    folder = tmp_path_factory.mktemp("made")
    corpus = str(corpus_of(folder / "corpus", files=2, stories=20))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(steps, "CHUNK_BYTES", 4000)
        prepare(corpus, "bpe", folder / "whole", vocab_size=300)
        patched.setattr(steps, "_finish", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(corpus, "bpe", folder / "unfinished", vocab_size=300)
    return corpus, contents(folder / "whole"), folder / "unfinished"


def flip(path: Path) -> None:
    """One bit in the middle; the size stays."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("part.json", ["read"]),
        ("parts/00001/*.zst", ["read"]),
        ("parts/00001/marks", ["read"]),
        ("parts/00001/verdicts", ["choose"]),
        ("chosen.json", ["choose"]),
        (".work/tokenizer.json", ["train"]),
        ("tokenizer/tokenizer.json", ["train"]),
        ("train/*.tokens", ["encode"]),
        ("validation/*.tokens", ["encode"]),
        ("encoded/*.jsonl", ["encode"]),
        ("encoded/*.json", ["encode"]),
    ],
)
def test_a_flipped_bit_is_found_and_done_again(made, tmp_path, monkeypatch, name, stages):
    corpus, whole, unfinished = made
    out = shutil.copytree(unfinished, tmp_path / "out")
    flip(sorted(out.rglob(name))[0])
    again: list[str] = []

    def watched(stage, function):
        return lambda *args: (again.append(stage), function(*args))[1]

    monkeypatch.setattr(reading, "_write_part", watched("read", reading._write_part))
    monkeypatch.setattr(choosing, "_validation", watched("choose", choosing._validation))
    monkeypatch.setattr(tokenizers, "train_bpe", watched("train", tokenizers.train_bpe))
    monkeypatch.setattr(encoding, "_encode", watched("encode", encoding._encode))
    prepare(corpus, "bpe", out, vocab_size=300)
    # A part that is read again stands there without verdicts.
    assert again == (["read", "choose"] if stages == ["read"] else stages)
    assert contents(out) == whole


def test_what_is_whole_is_not_done_again(made, tmp_path, monkeypatch):
    corpus, whole, unfinished = made
    out = shutil.copytree(unfinished, tmp_path / "out")
    for module, function in ((reading, "_write_part"), (choosing, "_validation"), (encoding, "_encode")):
        monkeypatch.setattr(module, function, None)
    monkeypatch.setattr(tokenizers, "train_bpe", None)
    prepare(corpus, "bpe", out, vocab_size=300)
    assert contents(out) == whole


@pytest.mark.parametrize(
    "raw", ["", "{", "[]", "null", '{"content": {"files": {}}}', '{"sha256": "0", "content": {}}', "\x00"]
)
def test_a_record_that_cannot_be_read_is_none(tmp_path, raw):
    (tmp_path / "record").write_text(raw)
    assert read_record(tmp_path / "record") is None
    assert not is_done(tmp_path / "record", tmp_path)
    assert read_record(tmp_path / "no such file") is None


def test_every_flip_of_a_record_is_found(tmp_path):
    path = tmp_path / "record"
    write_record(path, {"files": {}, "stories": 12345, "é": "ü"})
    good = path.read_bytes()
    assert read_record(path) == {"files": {}, "stories": 12345, "é": "ü"}
    for at in range(len(good)):
        for bit in (1, 16):
            path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
            found = read_record(path)
            assert found is None or json.dumps(found) == json.dumps(json.loads(good)["content"])

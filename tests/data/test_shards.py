"""Token files: what is written is read back, and what is damaged is refused in one clear line."""

import json
import os
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.config.errors import DataError
from storylm.data.shards import HEADER_BYTES, MAGIC, Shard, TokenSet, token_dtype, write_shard

STORIES = [[5, 6, 7, 0], [8, 0], [9, 9, 9, 9, 9, 0]]


def make(path: Path, stories=STORIES, **settings) -> Shard:
    write_shard(path, stories, **{"vocab_size": 300, "start_id": 0, "end_id": 0, "tokenizer": "abc"} | settings)
    return Shard(path)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_reads_what_was_written_in_the_narrowest_type(tmp_path, vocab_size, dtype):
    stories = [[vocab_size - 1, 1, 0], [2, 0]]
    shard = make(tmp_path / "a.tokens", stories, vocab_size=vocab_size)
    assert token_dtype(vocab_size) == dtype == shard.tokens.dtype.name == shard.header.dtype
    assert [shard[i].tolist() for i in range(len(shard))] == stories
    assert shard.offsets.tolist() == [0, 3, 5]


def test_header_says_what_the_file_holds(tmp_path):
    path = tmp_path / "a.tokens"
    make(path, start_id=1, end_id=2)
    raw = path.read_bytes()
    header = json.loads(raw[len(MAGIC) : HEADER_BYTES])
    assert header == {
        "version": 1,
        "dtype": "uint16",
        "tokens": 12,
        "stories": 3,
        "vocab_size": 300,
        "start_id": 1,
        "end_id": 2,
        "tokenizer": "abc",
    }
    # Readable without storylm, as the module's docstring says.
    assert np.frombuffer(raw, "<u2", count=12, offset=HEADER_BYTES).tolist() == list(chain(*STORIES))
    assert np.frombuffer(raw, "<u8", offset=HEADER_BYTES + 24).tolist() == [0, 4, 6, 12]


def test_a_failed_write_leaves_nothing(tmp_path):
    def stories():
        yield [1, 0]
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        make(tmp_path / "a.tokens", stories())
    assert list(tmp_path.iterdir()) == []


def test_ids_outside_the_vocabulary_are_our_mistake(tmp_path):
    with pytest.raises(AssertionError):
        make(tmp_path / "a.tokens", [[300, 0]])


@pytest.mark.parametrize("length", [0, 5, 500, HEADER_BYTES, HEADER_BYTES + 11, -1])
def test_a_cut_file_is_refused(tmp_path, length):
    path = tmp_path / "a.tokens"
    make(path)
    os.truncate(path, length if length >= 0 else path.stat().st_size - 1)
    with pytest.raises(DataError, match=r"a\.tokens is (damaged|no token file)"):
        Shard(path)


def test_a_longer_file_is_refused(tmp_path):
    path = tmp_path / "a.tokens"
    make(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="should have 1,080"):
        Shard(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"tokens": 12', b'"tokens": 11'),  # the same size on disk: padding hides it
        (b'"dtype": "uint16"', b'"dtype": "uint64"'),
        (b'"stories": 3', b'"stories": 0'),
        (b'"version": 1', b'"version": 2'),
        (b'"dtype"', b'"dtipe"'),
        (b"{", b"("),
        (MAGIC, b"STORYTEX"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, old, new):
    path = tmp_path / "a.tokens"
    make(path)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=r"a\.tokens is (damaged|no token file|of format)"):
        Shard(path)


def test_offsets_that_run_backwards_are_refused(tmp_path):
    path = tmp_path / "a.tokens"
    make(path)
    content = bytearray(path.read_bytes())
    content[-16:-8] = np.array([3], "<u8").tobytes()
    path.write_bytes(content)
    with pytest.raises(DataError, match="do not add up"):
        Shard(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        Shard(tmp_path / "none.tokens")


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_a_set_is_one_ring_over_all_shards(tmp_path_factory, sizes, data):
    folder = tmp_path_factory.mktemp("ring")
    ids = iter(range(1, 200))
    shards = [[[next(ids) for _ in range(size)] for size in shard] for shard in sizes]
    tokens = TokenSet([make(folder / f"{i}.tokens", shard) for i, shard in enumerate(shards)])
    stream = [token for shard in shards for story in shard for token in story]
    start, length = data.draw(st.integers(-50, 100)), data.draw(st.integers(0, 60))
    window = tokens.window(start, length)
    assert window.dtype == np.int64
    assert window.tolist() == [stream[(start + i) % len(stream)] for i in range(length)]
    assert (tokens.tokens, tokens.stories) == (len(stream), sum(map(len, shards)))
    starts = tokens.story_starts.tolist()
    assert [stream[a:b] for a, b in pairwise(starts)] == list(chain(*shards))


def test_a_set_of_several_tokenizers_is_refused(tmp_path):
    shards = [make(tmp_path / f"{name}.tokens", tokenizer=name) for name in ("a", "b")]
    with pytest.raises(DataError, match="several tokenizers"):
        TokenSet(shards)


def test_orders_are_kept_and_plain_files_are_what_they_were(tmp_path):
    plain, ordered = make(tmp_path / "a.tokens"), make(tmp_path / "b.tokens", told_from=[2, 0, 5])
    assert (plain.header.version, ordered.header.version) == (1, 2)
    assert ordered.begins.tolist() == [2, 4, 11]
    assert plain.begins.tolist() == plain.offsets[:-1].tolist() == ordered.offsets[:-1].tolist()
    assert (tmp_path / "b.tokens").stat().st_size == (tmp_path / "a.tokens").stat().st_size + 8 * len(STORIES)
    assert TokenSet([ordered, ordered]).story_begins.tolist() == [2, 4, 11, 14, 16, 23]
    with pytest.raises(DataError, match="with and without orders"):
        TokenSet([plain, ordered])


@pytest.mark.parametrize(("story", "begin"), [(0, 4), (1, 3), (2, 12), (1, 2**63)])
def test_a_story_that_begins_outside_of_itself_is_refused(tmp_path, story, begin):
    path = tmp_path / "a.tokens"
    make(path, told_from=[2, 0, 5])
    raw = bytearray(path.read_bytes())
    place = len(raw) - 8 * (3 - story)
    raw[place : place + 8] = np.array(begin, "<u8").tobytes()
    path.write_bytes(raw)
    with pytest.raises(DataError, match="begins outside of itself"):
        Shard(path)

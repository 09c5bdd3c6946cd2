"""`open_source`: files, folders, the grammar and the real stories; parts that are independent and make up the whole."""

import gzip
import json
import multiprocessing
import os
import pickle
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storylm.config.errors import DataError, UsageError, UserError
from storylm.data import sources
from storylm.data.grammar import story
from storylm.data.records import ENDOFTEXT, Record
from storylm.data.sources import is_story_file, open_source, split_of

STORIES = [f"Once there was a cat number {i}.\n\nIt purred." for i in range(200)]


def told(source, split="train"):
    return [record.text for record in source.stories(split)]


def write(path, stories):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"\n{ENDOFTEXT}\n".join(stories), encoding="utf-8")
    return path


def test_the_real_stories(shared):
    source = open_source(str(shared / "data" / "tinystories-train.txt.xz"))
    records = list(source.stories("train"))
    assert len(records) == 10_278
    assert not any(record.problem for record in records)
    assert sum(len(record.text.encode()) for record in records) == 8_571_364
    valid = list(open_source(str(shared / "data" / "tinystories-valid.txt.xz")).stories("train"))
    assert len(valid) == 650
    folder = open_source(str(shared / "data"))
    assert folder.splits == ("train", "validation")
    assert list(folder.stories("validation")) == valid


def test_a_file_is_one_split_named_train(tmp_path):
    path = write(tmp_path / "valid.txt", STORIES)
    source = open_source(str(path))
    assert source.name == str(path)
    assert source.splits == ("train",)
    assert source.bytes("train") == path.stat().st_size
    assert told(source) == STORIES
    with pytest.raises(DataError, match=r"has no split 'validation': it has train"):
        source.parts("validation")


def test_a_folder_of_files(tmp_path):
    write(tmp_path / "b.txt", STORIES[100:])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, STORIES[:100])).encode()))
    write(tmp_path / "sub" / "dev" / "0.txt", ["Held out."])
    write(tmp_path / "tests" / "0.txt", ["Trained on."])  # `tests` is no split's name
    write(tmp_path / "test-00.txt", ["Test."])
    for name in ("README.txt", "LICENSE.txt", ".hidden.txt", ".git/a.txt", "notes.md", "picture.png"):
        write(tmp_path / name, ["Not a story."])
    source = open_source(str(tmp_path))
    assert source.splits == ("train", "validation", "test")
    assert told(source) == [*STORIES, "Trained on."]
    assert told(source, "validation") == ["Held out."]
    assert told(source, "test") == ["Test."]
    assert told(open_source(f"{tmp_path}?files=a.*")) == STORIES[:100]
    with pytest.raises(DataError, match="no stories in"):
        open_source(f"{tmp_path}?files=*.csv")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("TinyStoriesV2-GPT4-valid.txt", "validation"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("train/validity.txt", "train"),
        ("test/train.txt", "train"),  # the last word that is one
        ("latest.txt", "train"),
        ("val.jsonl", "validation"),
    ],
)
def test_split_of(name, split):
    assert split_of(name) == split


def test_is_story_file():
    assert [is_story_file(name) for name in ("a/b.txt", "readme.txt", "a/LICENSE.txt.gz", "b.csv")] == [True] + [
        False
    ] * 3


def test_options(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "One.", "text": "no"}')
    assert told(open_source(f"{path}?column=body")) == ["One."]
    path = write(tmp_path / "a.txt", ["One.\nTwo."])
    assert told(open_source(f"{path}?separator=line")) == ["One.", "Two."]
    with pytest.raises(UsageError, match=r"unknown option 'seperator' .*; did you mean 'separator'\?"):
        open_source(f"{path}?seperator=line")
    with pytest.raises(UsageError, match=r"unknown separator 'tab' .*: use endoftext, blank, line"):
        open_source(f"{path}?separator=tab")
    odd = write(tmp_path / "what?.txt", ["Odd."])
    assert told(open_source(str(odd))) == ["Odd."]


# Parts


def test_large_files_are_parts_that_make_up_the_whole_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PIECE_BYTES", 1000)
    path = write(tmp_path / "a.txt", STORIES)
    source = open_source(str(path))
    parts = source.parts("train")
    assert len(parts) > 5
    assert [record.text for part in parts for record in part] == STORIES
    assert len({part.key for part in parts}) == len(parts)
    assert sum(part.size for part in parts) == source.bytes("train") == path.stat().st_size
    # Each by itself, in any order, in another process, gives the same.
    expected = [list(part) for part in parts]
    assert [list(part) for part in reversed(parts)] == expected[::-1]
    assert [list(pickle.loads(pickle.dumps(part))) for part in parts] == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(list, parts[:3]) == expected[:3]
    assert open_source(str(path)).parts("train") == parts


def test_a_compressed_file_is_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PIECE_BYTES", 10)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(ENDOFTEXT.join(STORIES).encode()))
    assert len(open_source(str(path)).parts("train")) == 1
    assert told(open_source(str(path))) == STORIES


def test_a_key_changes_with_what_is_read(tmp_path):
    path = write(tmp_path / "a.txt", STORIES)
    first = open_source(str(path)).parts("train")[0].key
    assert open_source(str(path)).parts("train")[0].key == first
    assert open_source(f"{path}?separator=line").parts("train")[0].key != first
    stat = path.stat()
    path.write_text(path.read_text().upper())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert open_source(str(path)).parts("train")[0].key != first


# The grammar


def test_the_grammar_as_a_source():
    source = open_source("grammar?stories=4500&validation=10&seed=3")
    assert source.splits == ("train", "validation")
    assert [part.count for part in source.parts("train")] == [2000, 2000, 500]
    assert list(source.parts("train")[2])[7] == Record(story(6, 4007))
    assert told(source, "validation") == [story(7, index) for index in range(10)]
    assert source.bytes("train") is None
    assert len({part.key for split in source.splits for part in source.parts(split)}) == 4
    assert open_source("grammar:3").parts("train")[0] == source.parts("train")[0]
    assert pickle.loads(pickle.dumps(source.parts("train")[1])).key == source.parts("train")[1].key
    assert not {*told(open_source("grammar?stories=500"))} & {*told(open_source("grammar"), "validation")}
    assert open_source("grammar?validation=0").splits == ("train",)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("grammar?stories=many", UsageError, "stories='many' .* is not a whole number"),
        ("grammar:-1", UsageError, "seed='-1' .* is not a whole number"),
        ("grammar?sotries=3", UsageError, "did you mean 'stories'"),
        ("grammar?stories=0", DataError, "has no stories"),
        ("gramar", DataError, "no file, folder or corpus 'gramar'; did you mean 'grammar'"),
        ("TinyStories", DataError, "did you mean 'tinystories'"),
        ("missing.txt", DataError, "no file, folder or corpus 'missing.txt'"),
        ("", DataError, "no file, folder or corpus ''"),
        ("~nobody/a.txt", DataError, "no file, folder or corpus '~nobody/a.txt'"),
        ("x" * 5000, DataError, "no file, folder or corpus"),
    ],
)
def test_a_spec_that_names_nothing(tmp_path, monkeypatch, spec, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        open_source(spec)


def test_a_file_with_a_name_alike_is_suggested(tmp_path):
    write(tmp_path / "stories.txt", STORIES)
    with pytest.raises(DataError, match=r"did you mean '.*stories\.txt'"):
        open_source(str(tmp_path / "storys.txt"))


def test_a_missing_file_of_a_folder_that_is_here_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "stories" / "a.txt", STORIES)
    with pytest.raises(DataError, match="no file, folder or corpus 'stories/train'"):
        open_source("stories/train")


def test_files_that_hold_nothing(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"empty\.txt is empty"):
        open_source(str(empty))
    with pytest.raises(DataError, match=r"no stories in .*: no files named"):
        open_source(str(tmp_path / "folder"))
    blank = write(tmp_path / "blank.txt", ["\n", " \n"])
    source = open_source(str(write(tmp_path / "none.jsonl", ["\n\n"])))
    with pytest.raises(DataError, match=r"none\.jsonl has no stories in its train split"):
        list(source.stories("train"))
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="has no stories in its train split"):
        list(open_source(str(tmp_path / "packed.txt.gz")).stories("train"))
    with pytest.raises(DataError, match=r"of no known format: known are \.txt"):
        open_source(str(blank.rename(tmp_path / "blank.csv")))


def test_a_file_that_goes_away_after_opening(tmp_path):
    path = write(tmp_path / "a.txt", STORIES)
    source = open_source(str(path))
    path.unlink()
    with pytest.raises(DataError, match="cannot read"):
        list(source.stories("train"))


@settings(deadline=None)
@given(st.text(max_size=30).filter(lambda spec: "/" not in spec and spec not in ("~", ".", "..")))
@example("~0")
@example("\0")
@example("\ud800?\0")
def test_no_spec_is_a_traceback(spec):
    with suppress(UserError):
        open_source(spec)


# What storylm has made is no corpus


@pytest.mark.parametrize(
    ("signs", "kind"),
    [
        (["manifest.json", "cleaning.json", "tokenizer/tokenizer.json"], "prepared stories"),
        ([".work/key"], "unfinished prepared stories"),
        (["manifest.json", "config.yaml"], "a run"),
        (["config.json", "model.safetensors"], "a model"),
        (["config.json", "model.int8.safetensors"], "a model in 8 bits"),
        (["tokenizer.json", "tokenizer_config.json"], "a tokenizer"),
    ],
)
def test_folders_of_ours_are_passed_over_and_refused(tmp_path, signs, kind):
    write(tmp_path / "a.txt", STORIES)
    for sign in [*signs, "below/metrics.jsonl", "validation.jsonl"]:
        write(tmp_path / "ours" / sign, ["{}"])
    source = open_source(str(tmp_path))
    assert source.splits == ("train",)
    assert told(source) == STORIES
    with pytest.raises(UsageError, match=f"ours holds {kind}, not stories"):
        open_source(str(tmp_path / "ours"))


def test_a_folder_without_train_says_how_to_train_on_it(tmp_path):
    write(tmp_path / "test.txt", STORIES)
    with pytest.raises(DataError, match="no split 'train': it has test; a file that is named itself"):
        open_source(str(tmp_path)).parts("train")
    assert open_source(str(tmp_path / "test.txt")).parts("train")

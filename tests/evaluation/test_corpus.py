import json
from pathlib import Path

import pytest

from storylm.config.errors import DataError, UsageError
from storylm.evaluation.corpus import Corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "valid.txt").write_text("three\n<|endoftext|>\nfour\n")
    return tmp_path


def test_validation_where_there_is_one_else_all_there_is(folder):
    assert list(Corpus(str(folder))) == list(Corpus(str(folder), "validation")) == ["three", "four"]
    assert Corpus(str(folder)).split == "validation"
    assert list(Corpus(str(folder), "train")) == ["one", "two"]
    assert list(Corpus(str(folder), "all")) == ["one", "two", "three", "four"]
    alone = Corpus(str(folder / "valid.txt"))
    assert (alone.split, list(alone)) == ("all", ["three", "four"])


def test_only_the_first_so_many(folder):
    assert list(Corpus(str(folder), "all", max_stories=3)) == ["one", "two", "three"]
    with pytest.raises(UsageError, match="max_stories=0"):
        Corpus(str(folder), max_stories=0)


def test_a_prepared_folder_is_its_validation_stories(tmp_path):
    (tmp_path / "manifest.json").write_text('{"text": "not a story"}')
    (tmp_path / "cleaning.json").write_text('{"text": "nor this"}')
    (tmp_path / "validation.jsonl").write_text('{"text": "five"}\n')
    assert list(Corpus(str(tmp_path))) == ["five"]
    assert list(Corpus(str(tmp_path), "validation")) == ["five"]
    with pytest.raises(DataError, match="has no train split, only validation"):
        Corpus(str(tmp_path), "train")


def test_what_cannot_be_read_is_counted_in_every_pass_alike(tmp_path):
    lines = [
        '{"text": "good"}',
        "{nonsense",
        '{"text": null}',
        '{"text": ""}',
        '{"text": "\\ud83d!"}',
        '{"text": "ok"}',
    ]
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(lines))
    corpus = Corpus(str(path))
    for _ in range(2):
        assert list(corpus) == ["good", "ok"]
        assert corpus.unreadable.total() == 4
        assert corpus.unreadable["malformed JSON"] == corpus.unreadable["lone surrogates"] == 1


def test_nothing_is_cleaned(tmp_path):
    stories = ["  two  spaces ", "itâ€™s", "it\u2019s", "itâ€™s", "cut in the mid"]
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(json.dumps({"text": story}) for story in stories))
    assert list(Corpus(str(path))) == stories


@pytest.mark.parametrize(("split", "words"), [("test", "no test split, only train and validation"), ("al", "no al")])
def test_a_split_that_is_not_there(folder, split, words):
    with pytest.raises(DataError, match=words):
        Corpus(str(folder), split)


def test_a_source_that_is_not_there():
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        Corpus("nowhere.txt")


@pytest.mark.network
def test_the_first_stories_on_the_hub():
    stories = list(Corpus("roneneldan/TinyStories?files=data/validation-*.parquet", max_stories=3))
    assert len(stories) == 3
    assert stories[0].startswith("Spot. Spot saw the shiny car")


def test_the_home_folder_of_no_one():
    with pytest.raises(DataError, match="nosuchuser"):
        Corpus("~nosuchuser/x")

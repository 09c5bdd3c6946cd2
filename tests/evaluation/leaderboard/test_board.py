"""A leaderboard from the inside: figures are those of `evaluate`, places are right, and nothing is asked twice."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from cli.telling import diverged_model, small_model
from storylm.config.errors import CheckpointError, UsageError
from storylm.evaluation.bootstrap import paired_test
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.leaderboard import board as module
from storylm.evaluation.leaderboard import kept
from storylm.evaluation.leaderboard.board import hold
from storylm.evaluation.leaderboard.examine import Findings, Questions, examine
from storylm.evaluation.likelihood import evaluate
from storylm.evaluation.per_story import PerStory
from storylm.evaluation.suites import SUITES
from storylm.evaluation.telling import Manner
from storylm.generation.engine import generate
from storylm.model.store import load

DATA = "grammar?validation=9"
QUICK = Manner(max_new_tokens=6, seed=3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    place = tmp_path_factory.mktemp("models")
    return [small_model(place / name, seed) for seed, name in enumerate(("one", "two", "three"))]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("storylm.evaluation.leaderboard.kept.cache_folder", lambda: tmp_path / "cache")
    # A suite is 64 items: of each only a few, and only where they are asked about.
    monkeypatch.setattr("storylm.evaluation.leaderboard.examine.SUITES", ())


def questions(**settings) -> Questions:
    return Questions(Corpus(DATA), stories=0, manner=QUICK, **settings)


def held(names, **settings):
    return hold(names, load, settings.pop("questions", questions()), settings.pop("machine", "here"), **settings)


def test_the_best_is_first_and_the_others_are_held_against_it(folders):
    board = held(folders)
    of = {}
    for folder in folders:
        model, letters = load(folder)
        each = PerStory(letters.end_id)
        of[folder] = evaluate(model, letters, Corpus(DATA), stride=32, listeners=[each]), each
    order = sorted(folders, key=lambda folder: of[folder][0].bits_per_byte)
    assert [place.entry.name for place in board.places] == order
    best = of[order[0]][1]
    assert board.places[0].against_best is None
    assert not board.places[0].surely_behind
    for place in board.places:
        likelihood, each = of[place.entry.name]
        found = place.entry.findings
        assert found.bits_per_byte.value == pytest.approx(likelihood.bits_per_byte, rel=1e-6)
        assert found.bits_per_byte.interval[0] < found.bits_per_byte.value < found.bits_per_byte.interval[1]
        assert found.story_bytes.sum() == sum(len(story.encode()) for story in Corpus(DATA))  # to their ends
        assert found.parameters == sum(weight.numel() for weight in load(place.entry.name)[0].parameters())
        assert found.tokens_per_second > 0
        if place.against_best is not None:
            expected = paired_test(each.story_nats, best.story_nats, best.story_bytes, seed=3)
            assert place.against_best.difference == pytest.approx(expected.difference, abs=1e-6) != 0
            assert place.against_best.p_value == pytest.approx(expected.p_value, abs=0.01)
            assert place.against_best.stories == 9
            assert place.surely_behind == (expected.p_value < 0.05)


def test_all_tell_the_same_prompt_with_the_same_seed(folders):
    board = held(folders[:2], questions=questions(prompt="The fox"))
    for place in board.places:
        model, letters = load(place.entry.name)
        (story,) = generate(model, letters, "The fox", max_new_tokens=6, seed=3)
        assert place.entry.findings.story == story


def test_a_model_that_cannot_be_had_is_left_out_and_the_others_are_not(folders, tmp_path):
    def broken(name):
        if name == "unreadable":
            raise PermissionError(13, "Permission denied", "weights")
        return load(name)

    said = []
    board = hold(["nowhere", folders[0], "unreadable"], broken, questions(), "here", say=said.append)
    assert [place.entry.name for place in board.places] == folders[:1]
    assert list(board.left_out) == ["nowhere", "unreadable"]
    assert isinstance(board.left_out["nowhere"], CheckpointError)
    assert str(board.left_out["unreadable"]) == "weights: Permission denied"
    assert said[0].startswith("nowhere is left out: there is no model folder")  # before anything takes long
    assert "bits per byte" in said[-1]


def test_predictions_that_are_no_numbers_leave_a_model_out_even_if_it_tells(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("storylm.evaluation.leaderboard.examine._tell", lambda *_: ("Once.", 1.0))
    board = held([diverged_model(tmp_path / "diverged"), folders[0]])
    assert [place.entry.name for place in board.places] == folders[:1]
    (error,) = board.left_out.values()
    assert isinstance(error, CheckpointError)
    assert "bits per byte: nan" in str(error)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_model_that_is_too_large_is_left_out_alone(folders, error, monkeypatch):
    def examined(model, *rest):
        if model.blocks[0].attention.q.weight.sum() == large:
            raise error
        return examine(model, *rest)

    large = load(folders[1])[0].blocks[0].attention.q.weight.sum()
    monkeypatch.setattr(module, "examine", examined)
    board = held(folders)
    assert {place.entry.name for place in board.places} == {folders[0], folders[2]}
    assert "not enough memory" in str(board.left_out[folders[1]])


def test_a_speed_is_kept_with_its_time(folders, monkeypatch):
    (first,) = held(folders[:1]).places
    assert abs(datetime.fromisoformat(first.entry.findings.asked) - datetime.now(UTC)).total_seconds() < 60
    monkeypatch.setattr(module, "examine", lambda *_: pytest.fail("asked again"))
    (again,) = held(folders[:1]).places
    assert again.entry.findings.asked == first.entry.findings.asked


def test_none_of_all_is_no_leaderboard(folders):
    board = held(["nowhere"])
    assert not board.places
    for names in ([], [folders[0], folders[0]]):
        with pytest.raises(UsageError, match="each once"):
            held(names)


def test_nothing_is_asked_twice_and_adding_a_model_asks_it_alone(folders, monkeypatch, tmp_path):
    first = held(folders[:2])
    asked = []

    def counted(model, *rest):
        asked.append(model)
        return examine(model, *rest)

    monkeypatch.setattr(module, "examine", counted)
    again = held(folders[:2])
    assert asked == []
    assert [place.entry.name for place in again.places] == [place.entry.name for place in first.places]
    for one, other in zip(first.places, again.places, strict=True):
        assert one.entry.findings.measures == other.entry.findings.measures
        assert one.against_best == other.against_best
    held(folders)
    assert len(asked) == 1
    copy = small_model(tmp_path / "elsewhere", 1)  # the second, under another name
    held([copy])
    assert len(asked) == 1
    held(folders[:2], again=True)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"questions": Questions(Corpus("grammar?validation=8"), stories=0, manner=QUICK)},
        {"questions": Questions(Corpus(DATA, max_stories=8), stories=0, manner=QUICK)},
        {"questions": Questions(Corpus(DATA), stories=0, manner=Manner(max_new_tokens=6, seed=4))},
        {"questions": Questions(Corpus(DATA), stories=0, manner=Manner(0.7, 6, 3))},
        {"questions": Questions(Corpus(DATA), stories=1, manner=QUICK)},
        {"questions": Questions(Corpus(DATA), "Tom", stories=0, manner=QUICK)},
        {"machine": "there"},
        {"weights": "other"},
        {"tokenizer": "other"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_an_answer_depends_on_is_in_its_key(other):
    same = {"weights": "w", "tokenizer": "t", "questions": questions(), "machine": "here"}
    assert kept.key(**same) == kept.key(**{**same, "questions": questions()})
    assert kept.key(**same) != kept.key(**{**same, **other})


def test_whose_eyes_is_a_part_of_the_question(folders):
    first, second = (questions(eyes=load(folder)) for folder in folders[:2])
    keys = {kept.key("w", "t", asked, "here") for asked in (questions(), first, second)}
    assert len(keys) == 3


def test_what_is_kept_is_what_was_found_and_damage_is_asked_anew(folders, tmp_path):
    model, letters = load(folders[0])
    found = examine(model, letters, questions())
    kept.keep("key", found)
    back = kept.known("key")
    assert back is not None
    assert (back.measures, back.story, back.parameters) == (found.measures, found.story, found.parameters)
    assert np.array_equal(back.story_nats, found.story_nats)
    assert np.array_equal(back.story_bytes, found.story_bytes)
    (path,) = (tmp_path / "cache" / "leaderboard").iterdir()
    path.write_text(path.read_text()[:-40])
    assert kept.known("key") is None
    path.write_text("[]")
    assert kept.known("key") is None
    assert kept.known("other") is None


def test_suites_and_stories_are_asked_too(folders, monkeypatch):
    for package in ("sacrebleu", "rouge_score", "harper"):
        pytest.importorskip(package)
    monkeypatch.setattr("storylm.evaluation.leaderboard.examine.SUITES", SUITES[:1])
    asked = Questions(Corpus("grammar?validation=12"), stories=4, manner=QUICK, eyes=load(folders[1]))
    model, letters = load(folders[0])
    said = []
    found = examine(model, letters, asked, lambda what, done, total: said.append((what, done, total)))
    names = [one.name for one in found.measures]
    assert names[:3] == ["bits_per_byte", "nats_per_token", "perplexity"]
    assert {"facts_accuracy", "facts_told", "grammar_lints", "bleu", "mauve", "eyes_bits_per_byte"} <= set(names)
    assert found.measure("facts_accuracy").reference == 0.25
    assert found.measure("none") is None
    assert len(found.told) == 4
    assert ("bits per byte", 12, 12) in said
    assert ("telling", 4, 4) in said
    row = Findings.from_json(found.to_json())
    assert [one.to_json() for one in row.measures] == [one.to_json() for one in found.measures]
    assert math.isfinite(found.bits_per_byte.value)

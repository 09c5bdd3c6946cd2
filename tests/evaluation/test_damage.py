"""Damage does what it says and no more, and every kind has a metric that ranks it by how much there is."""

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.evaluation.damage import DAMAGES, NAMES, damaged
from storylm.evaluation.measure import Measure
from storylm.evaluation.text import ending, grammar, names, repetition
from storylm.evaluation.text.metric import StoryMetric, Told
from storylm.text.words import name_spans, sentences, words

STORY = (
    "Once upon a time, there was a girl named Lily. She had a dog. The dog was brown.\n\n"
    'One day, Lily and her dog were in the park. "Look, a ball!" said Lily. They ran. '
    "It does not matter who has the ball, Lily thought. The dog was happy. They went home to eat."
)


def damage(kind: str, amount: float, seed: int = 0) -> str:
    (text,) = damaged([STORY], kind, amount, seed)
    return text


@pytest.mark.parametrize("kind", DAMAGES)
def test_no_amount_is_no_damage_and_the_same_seed_the_same_damage(kind):
    assert damage(kind, 0) == STORY
    assert damage(kind, 1) == damage(kind, 1) != STORY
    some = 0.5 if kind != "cut off" else 1.0
    assert len({damage(kind, some, seed) for seed in range(12)}) > 1 or kind == "broken agreement"


@given(st.floats(0, 1), st.text(st.sampled_from("aB .\n\"'é"), max_size=50))
def test_any_text_can_be_damaged(amount, text):
    for kind in DAMAGES:
        damaged([text], kind, amount)


def test_words_change_places_with_their_neighbours():
    found = damage("swapped words", 0.2)
    assert sorted(found.split()) == sorted(STORY.split())
    moved = [a != b for a, b in zip(found.split(), STORY.split(), strict=True)]
    pairs = len(STORY.split()) // 2
    assert sum(moved) == 2 * round(0.2 * pairs)
    assert found.count("\n\n") == 1  # what is between words stays


def test_sentences_change_places_whole():
    assert sorted(sentences(damage("shuffled sentences", 1))) == sorted(sentences(STORY))
    half = damage("shuffled sentences", 0.3)
    assert sum(a != b for a, b in zip(sentences(half), sentences(STORY), strict=True)) <= 3


def test_verbs_disagree():
    found = damage("broken agreement", 1)
    assert "there were a girl" in found
    assert "her dog was in the park" in found
    assert "It do not matter who have the ball" in found
    assert SequenceMatcher(None, STORY.split(), found.split()).ratio() > 0.8


def test_names_become_others():
    found = damage("swapped names", 1)
    told = [found[first:end] for first, end in name_spans(found)]
    assert "Lily" not in found
    assert set(told) <= set(NAMES)
    assert sentences(found)[1:3] == sentences(STORY)[1:3]


def test_sentences_are_told_twice():
    assert damage("repeated sentences", 1).count("The dog was brown.") == 2
    assert len(words(damage("repeated sentences", 1))) == 2 * len(words(STORY))


def test_the_end_is_missing():
    found = damage("cut off", 1)
    assert STORY.startswith(found)
    assert 0.6 < len(found) / len(STORY) < 1
    assert found[-1].isalpha()


(KEPT_NAMES,), (GRAMMAR,) = names.METRICS, grammar.METRICS
REPEATED_GRAMS, REPEATED_SENTENCES = repetition.METRICS
ENDED, QUOTES = ending.METRICS


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("swapped words", GRAMMAR),
        ("swapped words", KEPT_NAMES),
        ("broken agreement", GRAMMAR),
        ("swapped names", KEPT_NAMES),
        ("repeated sentences", REPEATED_GRAMS),
        ("repeated sentences", REPEATED_SENTENCES),
        ("cut off", ENDED),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_metrics_of_stories_rank_damage_by_how_much_there_is(valid_stories, kind: str, metric: StoryMetric):
    if metric is GRAMMAR:
        pytest.importorskip("harper")

    def measure(stories: list[str]) -> Measure:
        return metric.measure([Told("", story) for story in stories], None)

    sound = valid_stories[: 40 if metric is GRAMMAR else 150]  # Harper takes its time
    figures = [measure(sound), *(measure(damaged(sound, kind, amount)) for amount in DAMAGES[kind].amounts)]
    values = [figure.value or 0.0 for figure in figures]
    assert values == sorted(values, reverse=metric.direction == "higher")
    assert len(set(values)) == len(values)
    low, high = figures[-1].interval
    assert not low <= values[0] <= high  # the most damage is beyond doubt


def test_sentences_out_of_order_are_for_a_model_to_notice(shared, valid_stories):
    from storylm.evaluation.likelihood import evaluate
    from storylm.model.llama2c import read_llama2c
    from storylm.text.tokenizer import Tokenizer

    folder = shared / "reference" / "stories260K"
    judge = read_llama2c(folder / "stories260K.bin"), Tokenizer.load(folder / "tok512.model")
    sound = [story for story in valid_stories if len(story) < 700][:60]

    def kinds(amount: float) -> list[str]:
        return damaged(sound, "shuffled sentences", amount)

    values = [evaluate(*judge, kinds(amount)).bits_per_byte for amount in (0, 0.25, 0.5, 1.0)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.02
    for metric in (KEPT_NAMES, REPEATED_SENTENCES):  # which these do not
        told = [metric.measure([Told("", story) for story in stories], None).value for stories in (sound, kinds(1.0))]
        assert told[1] == pytest.approx(told[0], abs=0.15)

"""The small metrics, each against a figure by hand, and the sums they are made of."""

import random
import re
import sys

import numpy as np
import pytest

from storylm.config.errors import SetupError
from storylm.evaluation.bootstrap import interval
from storylm.evaluation.text import diversity, ending, grammar, names, overlap, readability, repetition
from storylm.evaluation.text.metric import CorpusMetric, StoryMetric, Told, summed
from storylm.text.common_words import common_words

LINE = "the cat saw a small red bird in the tall tree and ran home "


def test_a_metric_is_a_ratio_of_sums_with_its_interval(told):
    metric = StoryMetric("share", "lower", lambda story: (story.told.count("a"), len(story.told)))
    measure = metric.measure(told("aab", "b" * 7), told("ab"))
    assert (measure.value, measure.reference, measure.direction) == (0.2, 0.5, "lower")
    assert measure.interval == interval(np.array([[2, 3], [0, 7]]))
    assert metric.measure(told(""), None).value is None  # nothing to divide by, and no reference
    assert metric.measure(told(""), told("")).to_json()["interval"] is None
    assert summed("x", "lower", np.zeros((0, 2))).value is None


def test_a_corpus_metric_has_no_interval(told):
    metric = CorpusMetric("count", "higher", lambda stories: float(len(stories)))
    assert metric.measure(told("a", "b"), told("c")).to_json() == {
        "name": "count",
        "value": 2.0,
        "interval": None,
        "direction": "higher",
        "reference": 1.0,
    }


def test_distinct_n_counts_n_grams_within_stories_of_the_first_5000_words(told):
    numbered = " ".join("w" * (1 + number % 100) for number in range(2500))
    stories = told(numbered, numbered, "never seen " * 50)
    assert diversity.distinct(stories, 1) == 100 / 5000
    assert diversity.distinct(stories, 2) == 100 / (2 * 2499)
    assert diversity.distinct(told(numbered), 1) is None  # too few words


def test_compression_rises_with_repetition_and_ignores_what_is_beyond(told):
    generator = random.Random(0)
    varied = " ".join("".join(generator.choices("abcdefgh", k=5)) for _ in range(5000))
    same = LINE * 400
    assert diversity.compression_ratio(told(same)) > 20 > 3 > diversity.compression_ratio(told(varied))
    assert diversity.compression_ratio(told(varied, same)) == diversity.compression_ratio(told(varied))
    assert diversity.compression_ratio(told("short")) is None


def test_self_bleu_of_copies_is_100_and_of_strangers_near_0(told):
    pytest.importorskip("sacrebleu")
    generator = random.Random(0)
    strangers = [" ".join("".join(generator.choices("abcdefghij", k=6)) for _ in range(40)) for _ in range(50)]
    assert diversity.self_bleu(told(*[LINE] * 50)) == pytest.approx(100)
    assert diversity.self_bleu(told(*strangers)) < 1
    assert diversity.self_bleu(told(*[LINE] * 49)) is None
    assert diversity.self_bleu(told(*strangers, *[LINE] * 9)) == diversity.self_bleu(told(*strangers))


def test_repetition(told):
    (story,) = told("He ran. The cat sat down. He ran. The cat sat down. It was sad.")
    assert repetition.repeated_sentences(story) == (1, 3)  # "He ran." is too short to count
    (story,) = told("a b c d a b c d e")
    assert repetition.repeated_grams(story) == (1, 6)
    assert repetition.repeated_grams(Told("a b c d", "a b c d")) == (0, 1)  # only what was told


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The end.", True), ('"Bye!"  \n', True), ("“Yes.”", True), ("and then…", True), ("and", False), ("", False)],
)
def test_ended(text, expected):
    assert ending.ended(Told("", text)) == (expected, 1)


def test_the_share_that_was_cut_is_of_those_of_which_that_is_known():
    stories = [Told("", "a", True), Told("", "b", False), Told("", "c", False), Told("", "d")]
    assert ending.REACHED_LIMIT.measure(stories, stories[:2]).value == pytest.approx(1 / 3)
    assert ending.REACHED_LIMIT.measure(stories, stories[:2]).reference == 0.5
    assert ending.REACHED_LIMIT.measure(stories[3:], None).value is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Hi," he said.\nNo speech.\n"Bye', (1, 2)),
        ("“Hi,” he said. “Bye.”", (1, 1)),
        ("”Hi,“ he said.", (0, 1)),
        ("“Hi, he said.", (0, 1)),
        ("Nothing.", (0, 0)),
    ],
)
def test_balanced_quotes(text, expected):
    assert ending.balanced_quotes(Told("", text)) == expected


def test_who_is_introduced_keeps_the_name():
    text = "One day, Tom met Lily in the park. They played with Tom's ball for a while. " * 2
    kept = "In the evening, Lily went home with Tom. " * 4
    lost = kept.replace("Lily", "Sara")
    assert names.kept_names(Told(text, kept)) == (8, 8)
    assert names.kept_names(Told(text, lost)) == (4, 8)
    assert names.kept_names(Told("", "It rained. The sun came out.")) == (0, 0)


def test_flesch_kincaid_is_the_published_formula():
    # 13 words in 2 sentences, 17 syllables by hand.
    story = Told("", "The little dog wanted a banana. It jumped over the wall and ran.")
    words_, sentences_, syllables_ = readability._reading(story)
    assert (words_, sentences_, syllables_) == (13, 2, 18)
    expected = 0.39 * 13 / 2 + 11.8 * 18 / 13 - 15.59
    assert readability.flesch_kincaid(np.array([13, 2, 18])) == pytest.approx(expected)
    metric = readability.METRICS[0]
    assert metric.measure([story, story], None).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("word", "count"),
    [("a", 1), ("the", 1), ("apple", 2), ("made", 1), ("played", 1), ("needed", 2), ("boxes", 2), ("happy", 2)],
)
def test_syllables(word, count):
    assert readability.syllables(word) == count


def test_uncommon_words_are_beyond_the_thousand_commonest():
    assert len(common_words()) == 1000
    assert readability.uncommon(Told("The zebra and", "The zebra and the otter!")) == (2, 5)


def test_grammar_finds_errors_and_forgives_names_and_style():
    pytest.importorskip("harper")
    wrong, count = grammar.lints(Told("", "She were happy. A apple fell. The the dog ran."))
    assert (wrong, count) == (3, 0.1)
    right, _ = grammar.lints(Told("", "Zibbo was very good. Tim, Zibbo and Mia ate an apple."))
    assert right == 0


@pytest.mark.parametrize(("module", "use"), [("harper", "grammar"), ("sacrebleu", "BLEU"), ("rouge_score", "ROUGE")])
def test_a_missing_package_is_named_with_its_extra(module, use, monkeypatch):
    uses = {
        "grammar": lambda: grammar.lints(Told("", "A cat.")),
        "BLEU": lambda: overlap.corpus_bleu(["a"], ["a"]),
        "ROUGE": lambda: overlap.rouge(["a"], ["a"]),
    }
    grammar._linter.cache_clear()
    overlap._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.rouge_scorer", None)
    with pytest.raises(SetupError, match=rf"{use} needs .* pip install 'storylm\[eval\]'"):
        uses[use]()


def test_every_metric_has_a_name_of_its_own():
    from storylm.evaluation.text.judge import METRICS

    assert len({metric.name for metric in METRICS}) == len(METRICS) > 10
    assert all(re.fullmatch(r"[a-z0-9_]+", metric.name) for metric in METRICS)

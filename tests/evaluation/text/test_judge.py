"""All metrics together: which are there, given what, and that damage shows in a whole report."""

import pytest

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")
pytest.importorskip("harper")

from storylm.config.errors import SetupError
from storylm.data.instruct import Ordered
from storylm.evaluation.damage import damaged
from storylm.evaluation.likelihood import evaluate
from storylm.evaluation.text import judge as module
from storylm.evaluation.text.judge import METRICS, Real, check_extra, judge_stories
from storylm.evaluation.text.metric import Told

ALONE = {metric.name for metric in METRICS}
BEGUN = [
    Told(f"Tom had {n} cats. ", f"He fed cat {n}. It was happy. Tom ran home with {'x' * n}.") for n in range(1, 25)
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Harper takes a second to wake up, and is tested by itself."""
    monkeypatch.setattr(module, "METRICS", tuple(metric for metric in METRICS if metric.name != "grammar_lints"))


def names(*arguments, **settings) -> set[str]:
    return {measure.name for measure in judge_stories(*arguments, **settings)} | {"grammar_lints"}


def test_what_is_not_given_is_not_judged(model, letters):
    assert names(BEGUN) == ALONE
    real = Real(BEGUN, BEGUN[:3])
    assert names(BEGUN, real) == ALONE | {"bleu", "rouge_1", "rouge_2", "rouge_l"}
    assert names(BEGUN, Real([], BEGUN)) == ALONE
    assert names(BEGUN, Real(BEGUN[::-1], BEGUN)) == ALONE  # endings of other beginnings
    assert names(BEGUN, eyes=(model, letters)) == ALONE | {"eyes_bits_per_byte"}
    assert names([Told("", "A cat.", True), Told("", "A dog.")]) == ALONE | {"reached_limit"}
    everything = names(BEGUN, real, (model, letters), ["A story.", "Another one."])
    assert {"mauve", "train_13_grams", "longest_train_span", "nearest_train_rouge_l"} < everything
    assert len(everything) == len(ALONE) + 9


def test_true_endings_are_as_good_as_the_reference(model, letters):
    said = []
    found = judge_stories(BEGUN, Real(BEGUN, BEGUN), (model, letters), ["A story."], progress=said.append)
    assert "mauve" in said
    for measure in found:
        if measure.name not in ("bleu", "rouge_1", "rouge_2", "rouge_l"):
            assert measure.value == pytest.approx(measure.reference), measure.name
        if measure.interval is not None:
            assert measure.interval[0] <= measure.value <= measure.interval[1]


def test_damage_shows(model, letters, valid_stories):
    told = [Told("", story) for story in valid_stories[:25]]
    real = Real(told, [Told("", story) for story in valid_stories[25:50]])
    worse = [Told("", story) for story in damaged(valid_stories[:25], "repeated sentences", 0.5)]
    found = {measure.name: measure for measure in judge_stories(worse, real)}
    assert found["repeated_sentences"].value > 0.2 > found["repeated_sentences"].reference
    assert found["repeated_4_grams"].value > found["repeated_4_grams"].reference


def test_empty_stories_are_no_accident(model, letters):
    told = [Told("Tom ran. ", ""), *BEGUN[1:]]
    found = {measure.name: measure for measure in judge_stories(told, Real(BEGUN, BEGUN), (model, letters), ["a b c"])}
    assert found["ended_properly"].value == pytest.approx(23 / 24)
    assert 0 <= found["mauve"].value <= 1


def test_a_model_that_says_nothing_has_measures_without_values(model, letters):
    told = [Told(story.beginning, "") for story in BEGUN]
    for real in (None, Real(BEGUN, BEGUN)):
        found = {one.name: one for one in judge_stories(told, real, (model, letters), ["A story.", "Another one."])}
        assert found["eyes_bits_per_byte"].value is None
        assert found["ended_properly"].value == 0
        assert (found["eyes_bits_per_byte"].reference is None) == (real is None)
        if real is not None:
            assert found["mauve"].value is None
            assert found["mauve"].reference is not None


def test_mauve_of_a_few_stories_is_not_said(model, letters):
    found = {one.name: one for one in judge_stories(BEGUN[:19], Real(BEGUN[:19], BEGUN), (model, letters))}
    assert (found["mauve"].value, found["mauve"].reference) == (None, None)


def test_the_eyes_see_what_was_told_after_its_beginning(model, letters):
    """What they make of an ending depends on what it ends, also where a beginning alone fills their context."""
    told = [Told("Tom had a cat. ", "It sat."), Told("x" * 90, "It sat.")]
    found = {one.name: one for one in judge_stories(told, None, (model, letters))}["eyes_bits_per_byte"]
    likelihood = evaluate(
        model, letters, [Ordered(story.told, story.beginning) for story in told], stride=model.config.context // 2
    )
    assert likelihood.bytes == 14
    assert found.value == pytest.approx(likelihood.bits_per_byte, rel=1e-6)
    alone = {one.name: one for one in judge_stories([Told("", "It sat.")], None, (model, letters))}[
        "eyes_bits_per_byte"
    ]
    assert found.value != pytest.approx(alone.value, rel=1e-3)


def test_a_missing_extra_is_named_before_anything_begins(monkeypatch):
    check_extra()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"storylm\[eval\]"):
        check_extra()

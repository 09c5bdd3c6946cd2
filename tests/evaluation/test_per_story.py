"""What each story adds: the sums are those of the likelihood, and models are compared on what both scored."""

import json
import math

import numpy as np
import pytest

import storylm
from storylm.config.errors import DataError
from storylm.evaluation.likelihood import evaluate
from storylm.evaluation.per_story import PerStory, comparable, compare
from storylm.model.transformer import Transformer


def judged(model, letters, stories, **settings):
    kept = PerStory(letters.end_id)
    return kept, evaluate(model, letters, stories, listeners=[kept], **settings)


@pytest.mark.parametrize("stride", [None, 7])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_every_story_has_its_own(model, letters, stories, stride, batch_size):
    kept, whole = judged(model, letters, stories, stride=stride, batch_size=batch_size)
    assert kept.story_nats.sum() == pytest.approx(whole.nats)
    assert kept.story_tokens.sum() == whole.tokens
    assert kept.story_bytes.sum() == whole.bytes
    for number, story in enumerate(stories[:7]):
        alone = evaluate(model, letters, [story], stride=stride)
        assert kept.story_nats[number] == pytest.approx(alone.nats, rel=1e-5)
        assert (kept.story_bytes[number], kept.story_tokens[number]) == (alone.bytes, alone.tokens)


def test_more_stories_than_there_was_room_for(model, letters):
    kept, whole = judged(model, letters, [f"{number}." for number in range(2500)])
    assert len(kept.story_nats) == 2500
    assert kept.story_nats.min() > 0
    assert kept.story_nats.sum() == pytest.approx(whole.nats)


def test_figures_have_intervals_around_them(model, letters, stories):
    kept, whole = judged(model, letters, stories)
    for measure in kept.measures(whole):
        assert measure.value == pytest.approx(getattr(whole, measure.name))
        assert measure.direction == "lower"
        low, high = measure.interval
        assert low < measure.value < high
    assert kept.measures(whole) == kept.measures(whole) != kept.measures(whole, seed=1)


@pytest.fixture
def other(model) -> Transformer:
    """Another model of the same shape, with half the context."""
    config = model.config.model_copy(update={"context": 16})
    import torch

    return Transformer(config).initialise(torch.Generator().manual_seed(3)).eval()


def test_stories_that_one_model_could_not_see_whole_are_left_out(model, other, letters, stories):
    first, _ = judged(model, letters, stories)
    second, _ = judged(other, letters, stories)
    seen = [number for number, story in enumerate(stories) if len(story.encode()) <= 16]
    assert 0 < len(seen) < len(stories)
    found = compare(first, second)
    assert found.stories == len(seen)
    bits = sum(first.story_nats[n] - second.story_nats[n] for n in seen) / math.log(2)
    assert found.difference == pytest.approx(bits / sum(len(stories[n].encode()) for n in seen))
    strided = compare(judged(model, letters, stories, stride=8)[0], judged(other, letters, stories, stride=8)[0])
    assert strided.stories == len(stories)


@pytest.mark.parametrize("stories", [["x" * 40], ["x" * 30, "x" * 40]])
def test_what_can_be_compared_is_known_beforehand(model, other, letters, stories):
    alike = judged(model, letters, stories)[0].story_bytes == judged(other, letters, stories)[0].story_bytes
    seers = [(letters, network.config.context) for network in (model, other)]
    assert not alike.any()
    assert not comparable(stories, *seers)
    assert comparable([*stories, "short"], *seers)
    assert comparable(stories, seers[0], seers[0])


def test_splits_and_stories_have_figures_of_their_own(model, letters, stories):
    kept, whole = judged(model, letters, [*stories[:5], " ", *stories[5:9]])
    found = kept.by_split({"train": 6, "validation": 4})
    for name, some in {"train": [*stories[:5], " "], "validation": stories[5:9]}.items():
        alone, of_split = judged(model, letters, some)
        assert found[name]["bits_per_byte"] == pytest.approx(of_split.bits_per_byte, rel=1e-5)
        assert found[name]["interval"] == pytest.approx(alone.measures(of_split)[0].interval, rel=1e-5)
        assert {key: found[name][key] for key in ("stories", "tokens", "bytes")} == {
            "stories": len(some),
            "tokens": of_split.tokens,
            "bytes": of_split.bytes,
        }
    assert sum(row["nats"] for row in found.values()) == pytest.approx(whole.nats)
    lists = json.loads(json.dumps(kept.to_json()))
    assert lists["bytes"] == kept.story_bytes.tolist()
    assert sum(lists["nats"]) == pytest.approx(whole.nats)
    assert lists["bits_per_byte"][2] == pytest.approx(evaluate(model, letters, [stories[2]]).bits_per_byte, rel=1e-5)


def test_one_story_has_figures_without_intervals(model, letters):
    kept, whole = judged(model, letters, ["Once."])
    assert [one.interval for one in kept.measures(whole)] == [None, None, None]


def test_who_is_first_turns_the_sign(model, other, letters, stories):
    first, second = judged(model, letters, stories)[0], judged(other, letters, stories)[0]
    there, back = compare(first, second), compare(second, first)
    assert there.difference == -back.difference
    assert there.p_value == back.p_value


def test_other_stories_or_none_in_common_are_refused(model, other, letters):
    long = ["x" * 40]
    with pytest.raises(DataError, match="pass --stride"):
        compare(judged(model, letters, long)[0], judged(other, letters, long)[0])
    with pytest.raises(DataError, match="1 stories against 2"):
        compare(judged(model, letters, ["a"])[0], judged(model, letters, ["a", "b"])[0])


def test_stories260k_has_a_narrow_interval_on_real_stories(shared, valid_stories):
    from storylm.model.llama2c import read_llama2c

    folder = shared / "reference" / "stories260K"
    tokenizer = storylm.Tokenizer.load(folder / "tok512.model")
    kept = PerStory(tokenizer.end_id)
    found = evaluate(read_llama2c(folder / "stories260K.bin"), tokenizer, valid_stories[:100], listeners=[kept])
    low, high = kept.measures(found)[0].interval
    assert 0.85 < low < found.bits_per_byte < high < 1.0
    assert np.isfinite(kept.story_nats).all()

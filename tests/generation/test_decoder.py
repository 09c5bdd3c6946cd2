import pytest

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.generation.decoder import Decoder, Draft
from storylm.generation.reading import build_reader
from storylm.generation.sampling import Sampling

SETTINGS = [Sampling(temperature=1.0), Sampling(temperature=0), Sampling(top_k=5), Sampling(repetition_penalty=1.5)]


@pytest.fixture(scope="module")
def model():
    return build(ModelConfig(**{**SHAPE, **VARIANTS["qwen3"]})).eval()


def drafts() -> list[Draft]:
    return [Draft([256, *range(n + 1)], seed=n, sampling=SETTINGS[n % 4]) for n in range(9)]


def told(model, slots: int, given: list[Draft], every: int = 1) -> list[list[int]]:
    """12 + n tokens for draft n, of which one comes to the decoder every so many steps."""
    decoder, coming, steps = Decoder(build_reader(model, slots, 48), 258), list(given), 0
    while decoder or coming:
        if coming and steps % every == 0:
            decoder.add(coming.pop(0))
        steps += 1
        drawn = decoder.step()
        assert len(drawn) <= slots
        decoder.end([draft for draft, _ in drawn if len(draft.drawn) == 12 + given.index(draft)])
    return [draft.drawn for draft in given]


def test_whenever_a_story_comes_and_whoever_is_there_it_is_the_same(model, by):
    together = told(model, 9, drafts())
    assert together == told(model, 3, drafts(), every=2) == told(model, 1, drafts())
    assert [ids[:12] for ids in together] == [told(model, 1, [draft])[0] for draft in drafts()]
    assert [len(ids) for ids in together] == [12 + n for n in range(9)]


def test_one_that_is_ended_early_leaves_its_slot_and_the_others_alone(model, by):
    given = drafts()
    decoder = Decoder(build_reader(model, 2, 48), 258)
    for draft in given:
        decoder.add(draft)
    decoder.step()
    decoder.end([given[0], given[4]])  # one that runs and one that waits
    for _ in range(3):
        decoder.step()
    assert len(decoder) == 7
    assert given[4].drawn == []
    assert [len(draft.drawn) for draft in given[:4]] == [1, 4, 3, 0]
    whole = told(model, 9, drafts())
    assert given[2].drawn == whole[2][:3]


def test_prompts_that_do_not_fit_are_refused(model):
    decoder = Decoder(build_reader(model, 2, 48), 258)
    for prompt, words in (([], "of 0 tokens"), ([1] * 49, "49 tokens .* 1 to 48"), ([258], "0 to 257"), ([-1], "0 to")):
        with pytest.raises(UsageError, match=words):
            decoder.add(Draft(prompt, 0, Sampling()))
    assert len(decoder) == 0
    assert decoder.step() == []

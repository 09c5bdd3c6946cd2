from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.generation import sampling as sampling_module
from storylm.generation.decoder import Decoder, Draft
from storylm.generation.device_steps import DeviceSteps
from storylm.generation.reading import Part, build_reader
from storylm.generation.sampling import Sampling
from storylm.generation.steps import HostSteps
from storylm.generation.torch_reader import TorchReader

SETTINGS = [Sampling(temperature=1.0), Sampling(temperature=0), Sampling(top_k=5), Sampling(repetition_penalty=1.5)]


@lru_cache
def models(variant: str):
    return build(ModelConfig(**{**SHAPE, **VARIANTS[variant]})).eval()


@pytest.fixture
def model():
    return models("qwen3")


@contextmanager
def without_kernels() -> Iterator[None]:
    """PyTorch draws, and not the C++."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_module, "kernels", lambda device: None)
        yield


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


def direct(reader: TorchReader) -> TorchReader:
    """Its stories told as a CPU's are: with the scores here, and each step waited for."""
    reader.steps = lambda vocabulary: HostSteps(reader, vocabulary)
    return reader


def ahead(reader: TorchReader, steps: int = 1) -> TorchReader:
    """Its stories told as on a GPU, so many steps ahead, and all slots in a pass."""
    reader.steps = lambda vocabulary: DeviceSteps(reader, vocabulary, steps)
    reader._recorder = Again()
    return reader


class Again:
    """What a CUDA graph does, without the graph."""

    def record(self, work):
        work()
        return work


STORIES = st.lists(
    st.tuples(
        st.integers(0, 4),  # comes after so many steps
        st.integers(1, 40),  # tokens of its prompt
        st.integers(0, 5),  # its seed
        st.sampled_from((*SETTINGS, Sampling(temperature=1.2, top_p=0.7, min_p=0.01, repetition_penalty=1.2))),
        st.sampled_from((None, 0, 3)),  # how many others to watch
        st.integers(1, 12),  # tokens that it ends with, or fewer where there is no room for more
    ),
    max_size=9,
)


def told_as_they_come(model, reader, stories) -> list[tuple[list[int], list]]:
    decoder, coming = Decoder(reader, 258), []
    for later, length, seed, sampling, watch, count in stories:
        draft = Draft([256, *range(seed, seed + length - 1)], seed, sampling, watch)
        coming.append((later, draft, min(count, 48 - length + 1)))
    drafts, goals = [draft for _, draft, _ in coming], {draft: goal for _, draft, goal in coming}
    steps = 0
    while coming or decoder:
        for each in [each for each in coming if each[0] <= steps]:
            decoder.add(each[1])
            coming.remove(each)
        steps += 1
        assert steps < 500
        decoder.end([draft for draft, _ in decoder.step() if len(draft.drawn) == goals[draft]])
    return [(draft.drawn, draft.likelihoods) for draft in drafts]


@pytest.mark.parametrize("variant", ["qwen3", "gpt_neo"])
@settings(max_examples=15, deadline=None)
@given(stories=STORIES, slots=st.integers(1, 4))
def test_a_step_ahead_the_stories_are_the_same(variant, stories, slots):
    """Whenever they come and end, with whatever settings; and so they are without waiting, as on a GPU."""
    model = models(variant)
    with without_kernels():
        expected = told_as_they_come(model, direct(TorchReader(model, slots, 48)), stories)
        for reader in (TorchReader(model, slots, 48), *(ahead(TorchReader(model, slots, 48), n) for n in (1, 2))):
            found = told_as_they_come(model, reader, stories)
            assert [drawn for drawn, _ in found] == [drawn for drawn, _ in expected]
            for (_, ours), (_, theirs) in zip(found, expected, strict=True):
                assert [one.nats for one in ours] == pytest.approx([one.nats for one in theirs], abs=1e-5)
                for one, other in zip(ours, theirs, strict=True):
                    assert one.instead == pytest.approx(other.instead, abs=1e-5)


def test_a_step_ahead_nothing_is_read_beyond_the_room_there_is():
    """And a story that nobody ends is an error, as it is when each step is waited for."""
    model = models("qwen3")
    for reader in (build_reader(model, 2, 20), TorchReader(model, 2, 20), ahead(TorchReader(model, 2, 20))):
        decoder, draft = Decoder(reader, 258), Draft([256] * 18, 0, Sampling())
        decoder.add(draft)
        for count in range(1, 4):
            assert [one for one, _ in decoder.step()] == [draft]
            assert len(draft.drawn) == count
        with pytest.raises(ValueError, match="a story has 21 tokens, and there is room for 20: end it"):
            decoder.step()


def test_a_step_ahead_what_is_known_is_not_sent_again():
    """When nobody comes or goes nothing is; and the next step is launched before one is asked for."""
    reader, sent, asked = ahead(TorchReader(models("qwen3"), 3, 48)), [], []
    upload = reader.upload
    reader.upload = lambda numbers: sent.append(numbers) or upload(numbers)
    decoder = Decoder(reader, 258)
    launch = decoder._steps.launch

    def launched(turns):
        asked.append("launch")
        drawn = launch(turns)
        return lambda: asked.append("ask") or drawn()

    decoder._steps.launch = launched
    given = [Draft([256, n], n, Sampling()) for n in range(2)]
    for draft in given:
        decoder.add(draft)
    decoder.step()
    sent.clear()
    for _ in range(5):
        decoder.step()
    assert sent == []
    assert asked == ["launch", "launch", "ask", *["launch", "ask"] * 5]
    decoder.end(given[:1])
    decoder.step()
    assert sent != []


def test_a_slot_without_a_story_writes_where_nobody_looks():
    reader = ahead(TorchReader(models("qwen3"), 3, 48))
    reader.read([Part(1, 0, list(range(30)))])
    before = [tensor.clone() for kept in reader._cache._layers.values() for tensor in kept]
    reader.read([Part(0, 0, [5])])
    after = [tensor for kept in reader._cache._layers.values() for tensor in kept]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[1:, :, :48], other[1:, :, :48])
        assert not torch.equal(one[0, :, 0], other[0, :, 0])

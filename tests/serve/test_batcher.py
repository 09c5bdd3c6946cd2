"""Jobs that come and go as they like: each is told its own story, and none leaves a slot behind."""

import asyncio
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.model import ModelConfig
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, Telling
from storylm.serve.batcher import Batcher, FullError, Host, Job
from storylm.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load("bytes")
SAMPLING = Sampling(temperature=1.0)


@lru_cache
def model(name: str):
    return build(ModelConfig(**{**SHAPE, **VARIANTS[name]})).eval()


@lru_cache
def alone(name: str, prompt: str, seed: int, limit: int) -> Story:
    return tell(model(name), TOKENIZER, prompt, SAMPLING, seed=seed, max_new_tokens=limit)[0]


def job(host: Host, prompt: str, seed: int, limit: int) -> Job:
    story = Story(prompt, seed, [TOKENIZER.start_id, *TOKENIZER.encode(prompt)])
    return Job(host, Telling(story, TOKENIZER, SAMPLING, host.model.config.context, limit))


VISITS = st.lists(
    st.tuples(
        st.sampled_from(("qwen3", "gpt2")),
        st.text("ab ", max_size=5),
        st.integers(0, 5),
        st.integers(1, 12),
        st.one_of(st.none(), st.integers(0, 6)),  # goes away after so many events
        st.integers(0, 3),  # comes after so many turns of the loop
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(VISITS, st.integers(1, 3))
def test_whoever_comes_and_goes_each_is_told_its_own_story(visits, slots):
    hosts = {name: Host(name, model(name), TOKENIZER, slots) for name in ("qwen3", "gpt2")}

    async def visit(batcher: Batcher, name, prompt, seed, limit, leaves, later) -> None:
        await asyncio.sleep(later * 0.001)
        own = job(hosts[name], prompt, seed, limit)
        batcher.submit([own])
        text, heard, ended = "", 0, None
        while ended is None and (leaves is None or heard < leaves):
            event = await asyncio.wait_for(own.events.get(), 30)
            text, heard, ended = text + event.text, heard + 1, event.ended
            assert event.failed is None
        expected = alone(name, prompt, seed, limit)
        if ended:
            assert (text, ended) == (expected.told, expected.ended)
        else:
            assert expected.told.startswith(text)
        batcher.cancel([own])

    async def all_of_them() -> None:
        batcher = Batcher(hosts.values(), limit=50)
        batcher.start()
        try:
            await asyncio.gather(*(visit(batcher, *each) for each in visits))
            for _ in range(1000):
                if batcher.jobs == 0 and not any(len(host.decoder) for host in hosts.values()):
                    break
                await asyncio.sleep(0.005)
            assert batcher.jobs == 0
            assert [len(host.decoder) for host in hosts.values()] == [0, 0]
        finally:
            batcher.close()

    asyncio.run(all_of_them())


def test_all_or_none_of_a_request_is_taken():
    async def ask() -> None:
        host = Host("qwen3", model("qwen3"), TOKENIZER, 2)
        batcher = Batcher([host], limit=3)
        batcher.start()
        try:
            batcher.submit([job(host, "a", 0, 5), job(host, "a", 1, 5)])
            with pytest.raises(FullError):
                batcher.submit([job(host, "b", 0, 5), job(host, "b", 1, 5)])
            assert batcher.jobs == 2
            batcher.submit([job(host, "b", 0, 5)])
        finally:
            batcher.close()

    asyncio.run(ask())

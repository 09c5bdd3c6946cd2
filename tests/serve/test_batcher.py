"""Jobs that come and go as they like: each is told its own story, and none leaves a slot behind."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.model import ModelConfig
from storylm.generation.decoder import Decoder
from storylm.generation.reading import build_reader
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, Telling
from storylm.serve.batcher import Batcher, BrokenError, Event, FullError, Job
from storylm.serve.host import Host
from storylm.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load("bytes")
NAMES = ("qwen3", "gpt2")
SAMPLINGS = (Sampling(temperature=1.0), Sampling(temperature=0), Sampling(1.3, 0.9, 20, 0.9, 0.01))


@lru_cache
def model(name: str):
    return build(ModelConfig(**{**SHAPE, **VARIANTS[name]})).eval()


def telling(name: str, prompt: str, seed: int, limit: int, sampling=SAMPLINGS[0], stop=(), watch=None) -> Telling:
    story = Story(prompt, seed, [TOKENIZER.start_id, *TOKENIZER.encode(prompt)])
    return Telling(story, TOKENIZER, sampling, model(name).config.context, limit, stop, watch)


@lru_cache
def alone(name: str, *given) -> Telling:
    """What it tells where there is nobody else."""
    own = telling(name, *given)
    decoder = Decoder(build_reader(model(name), 1, model(name).config.context), TOKENIZER.vocab_size)
    decoder.add(own.draft)
    while not own.story.ended:
        own.add(decoder.step()[0][1])
    return own


class Heard:
    """A job, and what was heard of it."""

    def __init__(self, host: Host, *given):
        self.job, self.events = Job(host, telling(host.name, *given)), asyncio.Queue[Event]()
        self.job.hear = self.events.put_nowait
        self.text, self.count, self.last = "", 0, Event()

    @property
    def over(self) -> bool:
        return bool(self.last.ended or self.last.failed)

    async def more(self) -> None:
        self.last = await asyncio.wait_for(self.events.get(), 30)
        self.text, self.count = self.text + self.last.text, self.count + 1


def run(batcher: Batcher, visits: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        batcher.start()
        try:
            await visits()
        finally:
            batcher.close()

    asyncio.run(all_of_it())


async def empty(batcher: Batcher) -> None:
    """Wait until nobody is on the way."""
    for _ in range(1000):
        decoders = [host.decoder for host in batcher.hosts.values()]
        if batcher.jobs == 0 and all(decoder is not None and len(decoder) == 0 for decoder in decoders):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{batcher.jobs} jobs are left")


class Faulty(Batcher):
    """Its next step of a model named in `faults` fails."""

    def __init__(self, hosts, limit):
        super().__init__(hosts, limit)
        self.faults: list[str] = []

    def _step(self, host: Host) -> None:
        if host.name in self.faults:
            self.faults.remove(host.name)
            raise RuntimeError("as it was told to")
        super()._step(host)


VISITS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.lists(st.tuples(st.text("ab ", max_size=5), st.integers(0, 5)), min_size=1, max_size=3),  # prompts, seeds
        st.integers(1, 12),
        st.sampled_from(SAMPLINGS),
        st.sampled_from([(), ("e",), ("a", "\x00b")]),  # stop strings
        st.sampled_from([None, 0, 3]),  # likelihoods
        st.one_of(st.none(), st.integers(0, 6)),  # goes away after so many events of each
        st.integers(0, 3),  # comes after so many turns of the loop
        st.sampled_from([False, False, False, True]),  # breaks the model's next step
    ),
    max_size=10,
)


@settings(max_examples=40)
@given(VISITS, st.integers(1, 3))
def test_whoever_comes_and_goes_each_is_told_its_own_story(visits, slots):
    hosts = {name: Host(name, model(name), TOKENIZER, slots) for name in NAMES}
    batcher, broken = Faulty(hosts.values(), limit=50), {name for name, *_, breaks in visits if breaks}

    def check(heard: Heard, given: tuple) -> None:
        own, expected = heard.job.telling, alone(heard.job.host.name, *given)
        if heard.last.failed:
            assert heard.job.host.name in broken
        elif heard.over:
            assert (heard.text, heard.last.ended) == (expected.story.told, expected.story.ended)
            assert own.draft.drawn == expected.draft.drawn
            for mine, other in zip(own.draft.likelihoods, expected.draft.likelihoods, strict=True):
                assert mine.nats == pytest.approx(other.nats, abs=1e-5)
                assert list(mine.instead) == list(other.instead)
        assert expected.story.told.startswith(heard.text)

    async def visit(name, stories, limit, sampling, stop, watch, leaves, later, breaks) -> None:
        await asyncio.sleep(later * 0.001)
        given = [(*story, limit, sampling, stop, watch) for story in stories]
        mine = [Heard(hosts[name], *each) for each in given]
        batcher.submit([heard.job for heard in mine])
        if breaks:
            batcher.faults.append(name)
        for heard, each in zip(mine, given, strict=True):
            while not heard.over and (leaves is None or heard.count < leaves):
                await heard.more()
            check(heard, each)
        batcher.cancel([heard.job for heard in mine])

    async def all_of_them() -> None:
        await asyncio.gather(*(visit(*each) for each in visits))
        await empty(batcher)
        batcher.faults.clear()
        assert [host.decoder.running for host in hosts.values()] == [0, 0]
        for name, host in hosts.items():  # and as ever afterwards
            last = Heard(host, "b", 1, 4)
            batcher.submit([last.job])
            while not last.over:
                await last.more()
            assert last.text == alone(name, "b", 1, 4).story.told

    run(batcher, all_of_them)


def test_all_or_none_of_a_request_is_taken():
    host = Host("qwen3", model("qwen3"), TOKENIZER, 2)
    batcher = Batcher([host], limit=3)

    async def ask() -> None:
        jobs = [Heard(host, "abc"[number // 2], number, 5).job for number in range(5)]
        batcher.submit(jobs[:2])
        with pytest.raises(FullError):
            batcher.submit(jobs[2:4])
        assert batcher.jobs == 2
        batcher.submit(jobs[4:])

    run(batcher, ask)


def test_nothing_is_drawn_for_who_has_gone():
    """Steps are made here one by one, so that what comes after the cancellation is known."""
    host = Host("qwen3", model("qwen3"), TOKENIZER, 2)
    steps, allowed = [], threading.Semaphore(0)

    class Slow(Batcher):
        def _step(self, host: Host) -> None:
            allowed.acquire(timeout=20)
            super()._step(host)
            steps.append(host.running)

    batcher = Slow([host], limit=2)
    gone, stays = Heard(host, "a", 0, 20), Heard(host, "b", 1, 20)
    assert min(alone("qwen3", "a", 0, 20).story.tokens, alone("qwen3", "b", 1, 20).story.tokens) > 10

    async def visit() -> None:
        batcher.submit([gone.job, stays.job])
        allowed.release()
        await gone.more()
        batcher.cancel([gone.job])
        for _ in range(8):
            allowed.release()
            await stays.more()
        assert gone.job.telling.story.tokens <= 2  # the step that was on its way, and no more
        assert steps[-1] == 1
        batcher.cancel([stays.job])
        allowed.release()
        await empty(batcher)

    run(batcher, visit)


def test_a_model_that_cannot_begin_anew_is_broken_and_others_are_not():
    """Its jobs hear of it at once; the memory of the old decoder is free when the new one is built."""
    hosts = {name: Host(name, model(name), TOKENIZER, 2) for name in NAMES}
    batcher, held = Faulty(hosts.values(), limit=9), []

    def fail() -> Decoder:
        held.append(hosts["qwen3"].decoder)
        raise MemoryError

    hosts["qwen3"]._open = fail

    async def visit() -> None:
        mine, waiting, other = (Heard(hosts[name], "a", 0, 9) for name in ("qwen3", "qwen3", "gpt2"))
        assert batcher.faults == [] == batcher.broken
        batcher.faults.append("qwen3")
        batcher.submit([mine.job, waiting.job, other.job])
        await mine.more()
        await waiting.more()
        assert mine.last.failed
        assert mine.last.failed == waiting.last.failed
        while not other.over:
            await other.more()
        assert other.text == alone("gpt2", "a", 0, 9).story.told
        assert (held, batcher.broken) == ([None], ["qwen3"])
        with pytest.raises(BrokenError):
            batcher.submit([Heard(hosts["qwen3"], "a", 0, 9).job])
        assert batcher.jobs == 0

    run(batcher, visit)


def test_a_batcher_that_fails_itself_says_so_to_everyone(caplog):
    host = Host("qwen3", model("qwen3"), TOKENIZER, 2)
    batcher = Batcher([host], limit=9)
    come = threading.Event()
    batcher._turn = lambda: come.wait(20) and 1 / 0  # type: ignore[method-assign]

    async def visit() -> None:
        heard = Heard(host, "a", 0, 9)
        batcher.submit([heard.job])
        come.set()
        await heard.more()
        assert heard.last.failed
        with pytest.raises(BrokenError):
            batcher.submit([heard.job])
        assert (batcher.broken, batcher.jobs) == (["batcher"], 0)

    run(batcher, visit)
    assert "the batcher has failed" in caplog.text

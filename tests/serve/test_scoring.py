"""Prompts scored while stories are told: these go on, and what goes wrong with one prompt is its own affair."""

import asyncio
from itertools import pairwise

import pytest

from storylm.generation import reading, torch_reader
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, Telling
from storylm.serve import scoring
from storylm.serve.batcher import Batcher, Host, Job

PROMPT = "x" * 40
PIECE = 4


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    for module in (reading, torch_reader):
        monkeypatch.setattr(module, "AT_ONCE", PIECE)


def job(host: Host, prompt: str, limit: int = 0, echo: bool = True) -> Job:
    ids = [host.tokenizer.start_id, *host.tokenizer.encode(prompt)]
    telling = Telling(Story(prompt, 0, ids), host.tokenizer, Sampling(temperature=0), 48, limit, watch=1)
    return Job(host, telling, echo_likelihoods=echo)


async def last_event(job: Job):
    while True:
        event = await asyncio.wait_for(job.events.get(), 30)
        if event.ended or event.failed:
            return event


@pytest.fixture
def host(models, tokenizer) -> Host:
    return Host("qwen3", models["qwen3"], tokenizer, slots=2)


@pytest.fixture
def turns(monkeypatch, host) -> list[str]:
    """Pieces scored and steps taken, in their order."""
    turns: list[str] = []
    advance, step = scoring.Scoring.advance, host.decoder.step
    monkeypatch.setattr(scoring.Scoring, "advance", lambda self: (turns.append("piece"), advance(self))[1])
    monkeypatch.setattr(host.decoder, "step", lambda: (turns.append("step"), step())[1])
    return turns


def test_a_story_has_its_token_between_any_two_pieces(host, turns):
    async def ask() -> None:
        batcher = Batcher([host], limit=100)
        prompts, story = [job(host, PROMPT) for _ in range(20)], job(host, "a", 20, echo=False)
        batcher.submit([*prompts, story])
        batcher.start()
        try:
            assert (await last_event(story)).ended
            assert [(await last_event(each)).ended for each in prompts] == ["length"] * 20
        finally:
            batcher.close()
        told = len(turns) - turns[::-1].index("step")
        assert turns.count("step") == story.telling.story.tokens
        assert all({one, other} == {"piece", "step"} for one, other in pairwise(turns[:told]))
        assert turns.count("piece") == 20 * (len(PROMPT) // PIECE + 1)
        for each in prompts:
            assert len(each.prompt_likelihoods) == 41
            assert each.prompt_likelihoods == prompts[0].prompt_likelihoods
        assert (batcher.jobs, len(host.scoring.jobs), len(host.decoder)) == (0, 0, 0)

    asyncio.run(ask())


def test_one_slot_is_shared_by_prompts_and_stories(models, tokenizer):
    """Who scores and who tells wait for each other, and neither for ever."""
    host = Host("qwen3", models["qwen3"], tokenizer, slots=1)

    async def ask() -> None:
        batcher = Batcher([host], limit=100)
        jobs = [job(host, PROMPT, limit, echo) for echo in (True, False) for limit in (3, 5)]
        batcher.submit(jobs)
        batcher.start()
        try:
            events = [await last_event(each) for each in jobs]
        finally:
            batcher.close()
        assert [event.tokens for event in events] == [each.telling.story.tokens for each in jobs]
        assert all(event.tokens for event in events)

    asyncio.run(ask())


def test_who_has_gone_is_not_scored(host, turns):
    async def ask() -> None:
        batcher = Batcher([host], limit=100)
        gone, there = [job(host, PROMPT) for _ in range(5)], job(host, "ab")
        batcher.submit([*gone, there])
        batcher.cancel(gone)
        batcher.start()
        try:
            assert (await last_event(there)).ended == "length"
            assert [(await last_event(each)).ended for each in gone] == ["cancelled"] * 5
        finally:
            batcher.close()
        assert turns == ["piece"] * 2
        assert batcher.jobs == 0
        assert not any(each.prompt_likelihoods for each in gone)

    asyncio.run(ask())


def test_what_cannot_be_scored_fails_alone(host, monkeypatch, caplog):
    """Out of memory, say, half-way through a prompt: a story beside it and the prompt after it know nothing of it."""
    score = scoring.score

    def failing(reader, slot, tokens, *given):
        yield from score(reader, slot, tokens[:9], *given)
        if len(tokens) == 41:
            raise RuntimeError("out of memory")
        yield from ()

    monkeypatch.setattr(scoring, "score", failing)

    async def ask() -> None:
        batcher = Batcher([host], limit=100)
        story, large, small = job(host, "a", 30, echo=False), job(host, PROMPT, 5), job(host, "b" * 8, 5)
        batcher.submit([story, large, small])
        batcher.start()
        try:
            failed = (await last_event(large)).failed
            assert failed in caplog.text
            assert "out of memory" in caplog.text
            assert (await last_event(small)).ended
            assert (await last_event(story)).ended
        finally:
            batcher.close()
        assert len(small.prompt_likelihoods) == 9
        assert batcher.jobs == 0
        assert sorted(host.decoder.borrow() for _ in range(2)) == [0, 1]  # no slot is lost

    asyncio.run(ask())


def test_a_prompt_is_as_likely_as_what_was_drawn_in_the_precision_that_is_served(models, tokenizer):
    nats = {}
    for precision in ("fp32", "bf16", "int8"):
        host = Host("qwen3", models["qwen3"], tokenizer, slots=2, precision=precision)

        async def ask(host: Host = host) -> tuple[list[float], list[float]]:
            batcher = Batcher([host], limit=100)
            batcher.start()
            try:
                batcher.submit([drawn := job(host, "abc", 30)])
                await last_event(drawn)
                draft, again = drawn.telling.draft, job(host, "abc")
                again.telling.draft.prompt_ids = draft.prompt_ids + draft.drawn
                batcher.submit([again])
                await last_event(again)
            finally:
                batcher.close()
            found = [likelihood.nats for likelihood in again.prompt_likelihoods[1:] if likelihood]
            expected = [likelihood.nats for likelihood in (*drawn.prompt_likelihoods[1:], *draft.likelihoods)]
            return found, expected

        found, expected = asyncio.run(ask())
        assert found == pytest.approx(expected, abs=1e-4)
        nats[precision] = found[:3]
    assert nats["fp32"] != pytest.approx(nats["bf16"], abs=1e-3)
    assert nats["fp32"] != pytest.approx(nats["int8"], abs=1e-3)

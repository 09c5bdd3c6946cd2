"""A server under load: complete, right, bounded, and itself again afterwards."""

import asyncio
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import pytest

pytest.importorskip("uvicorn")

import storylm
from generation.conftest import SHAPE, VARIANTS, build
from reliability.rows import sizes
from reliability.visitors import MODEL, Server, ask, figure, request, server, story
from storylm.config.model import ModelConfig
from storylm.text.tokenizer import Tokenizer

Figures = Callable[..., None]


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as one:
        yield one


async def idle(port: int) -> tuple[float, float]:
    """Stories running and waiting, once there are none or five seconds are over."""
    for _ in range(50):
        left = await figure(port, "storylm_stories_running"), await figure(port, "storylm_stories_waiting")
        if left == (0, 0):
            break
        await asyncio.sleep(0.1)
    return left


@sizes("streams")
def test_streams(count: int, running: Server, figures: Figures) -> None:
    model, tokenizer = storylm.load(MODEL)
    assert tokenizer is not None
    expected = storylm.generate(model, tokenizer, "Once", samples=count, temperature=1.0, max_new_tokens=32)

    async def all_at_once() -> list:
        return await asyncio.gather(*(ask(running.port, "/v1/completions", story(seed)) for seed in range(count)))

    began = time.monotonic()
    answers = asyncio.run(all_at_once())
    seconds = time.monotonic() - began
    complete = sum(answer.status == 200 and answer.pieces[-1] == "[DONE]" for answer in answers)
    told = ["Once" + "".join(piece["choices"][0]["text"] for piece in answer.pieces[:-1]) for answer in answers]
    wrong = sum(text != other for text, other in zip(told, expected, strict=True))
    assert (complete, wrong) == (count, 0)
    assert len(set(told)) > count / 2
    figures("streams", count, complete=complete, wrong=wrong, rate=32 * count / seconds)


@sizes("flood")
def test_flood(count: int, running: Server, figures: Figures) -> None:
    async def flood() -> tuple[list, float]:
        body = story(1, stream=False)
        answers = await asyncio.gather(*(ask(running.port, "/v1/completions", body) for _ in range(count)))
        began = time.monotonic()
        assert (await ask(running.port, "/health")).status == 200
        return answers, time.monotonic() - began

    before = running.peak_bytes()
    answers, healthy = asyncio.run(flood())
    statuses = Counter(answer.status for answer in answers)
    refused = [answer for answer in answers if answer.status == 429]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    other = count - statuses[200] - statuses[429]
    megabytes = (running.peak_bytes() - before) / 1e6
    assert other == 0
    assert statuses[200] >= 1000
    assert healthy < 5
    assert megabytes < 500
    assert asyncio.run(idle(running.port)) == (0, 0)
    found = {"taken": statuses[200], "turned_away": len(refused), "other": other}
    figures("flood", count, **found, healthy=healthy, megabytes=megabytes)


@sizes("gone")
def test_gone(count: int, running: Server, figures: Figures) -> None:
    async def go(seed: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request("/v1/completions", story(seed, max_tokens=400, n=2)))
        await writer.drain()
        if seed % 3:
            await reader.readuntil(b"data: ")
        writer.transport.abort()

    async def come_and_go() -> tuple[float, float]:
        before = await ask(running.port, "/v1/completions", story(7))
        for first in range(0, count, 100):
            await asyncio.gather(*(go(seed) for seed in range(first, min(first + 100, count))))
        left = await idle(running.port)
        after = await ask(running.port, "/v1/completions", story(7))
        assert [piece["choices"] for piece in before.pieces[:-1]] == [piece["choices"] for piece in after.pieces[:-1]]
        return left

    running_left, waiting_left = asyncio.run(come_and_go())
    leaked = running_left + waiting_left
    assert leaked == 0
    figures("gone", count, leaked=int(leaked))


@sizes("slow")
def test_slow(count: int, running: Server, figures: Figures) -> None:
    async def dawdle() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        try:
            for letter in request("/health")[:-4]:
                writer.write(bytes([letter]))
                await asyncio.sleep(0.3)
        finally:
            writer.close()

    async def beside() -> list[float]:
        slow = [asyncio.create_task(dawdle()) for _ in range(count)]
        await asyncio.sleep(1)
        times = []
        for _ in range(300):
            began = time.perf_counter()
            assert (await ask(running.port, "/health")).status == 200
            times.append(1000 * (time.perf_counter() - began))
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return times

    times = asyncio.run(beside())
    p99 = statistics.quantiles(times, n=100)[-1]
    assert p99 < 2000  # 100 on a machine that does nothing else
    figures("slow", count, p99=p99, median=statistics.median(times))


@sizes("fuzz")
def test_fuzz(count: int, figures: Figures) -> None:
    """Against the application in a thread: a server's process would hide where a 500 comes from."""
    schemathesis = pytest.importorskip("schemathesis")
    import uvicorn
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    from storylm.serve.api import create_app
    from storylm.serve.batcher import Host
    from storylm.serve.settings import ServeSettings

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    # A model whose longest stories are short: most requests ask for as much as there is.
    model = build(ModelConfig(**{**SHAPE, **VARIANTS["qwen3"]})).eval()
    app = create_app([Host("tiny", model, Tokenizer.load("bytes"), 32)], ServeSettings())
    http = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=http.run, daemon=True)
    thread.start()
    while not http.started:
        time.sleep(0.01)
    port = http.servers[0].sockets[0].getsockname()[1]
    try:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        described = [each.ok() for each in schema.get_all_operations()]
        kinds = list(product(described, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)))
        kinds = [(each, mode) for each, mode in kinds if each.method == "post" or mode == GenerationMode.POSITIVE]
        posts, seen = sum(each.method == "post" for each, _ in kinds), Counter()
        for operation, mode in kinds:
            share = -(-count // posts)  # of a GET without parameters there is but one

            @settings(
                max_examples=share, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def try_one(case) -> None:
                response = case.call(timeout=120)
                seen[response.status_code] += 1
                case.validate_response(response, checks=checks)

            try_one()
    finally:
        http.should_exit = True
        thread.join()
    assert seen[200] > count / 20
    assert seen[400] > count / 20
    assert max(seen) < 500
    figures("fuzz", sum(seen.values()))

"""A server under load: complete, right, bounded, and itself again afterwards."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import pytest

pytest.importorskip("uvicorn")

import storylm
from generation.conftest import SHAPE, VARIANTS, build
from reliability.rows import sizes
from reliability.visitors import MODEL, ask, figures_of, request, story
from serve.live import heard, serving
from serve.playground import save_babbler
from serve.process import Server
from storylm.config.model import ModelConfig
from storylm.text.tokenizer import Tokenizer

Figures = Callable[..., None]


RUNNING, WAITING, TOLD = "storylm_stories_running", "storylm_stories_waiting", "storylm_tokens_told_total"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that serves stories, and one that never ends its own."""
    babbler = save_babbler(tmp_path_factory.mktemp("models") / "babble", context=1024)
    with Server(MODEL, str(babbler)) as one:
        yield one


async def idle(port: int) -> tuple[float, ...]:
    """Stories running and waiting, once there are none or five seconds are over."""
    for _ in range(50):
        left = await figures_of(port, RUNNING, WAITING)
        if left == (0, 0):
            break
        await asyncio.sleep(0.1)
    return left


async def health_times(port: int, until: asyncio.Event) -> list[float]:
    """Milliseconds that /health takes to answer, asked again and again."""
    times = []
    while not until.is_set():
        began = time.perf_counter()
        assert (await ask(port, "/health")).status == 200
        times.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.01)
    return times


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
def test_flood(count: int, figures: Figures) -> None:
    """On a server of its own, so that the memory is that of the flood: small bodies, large ones, and long answers."""
    long = story(2, stream=False, logprobs=20, echo=True, max_tokens=100, n=4)
    large = story(3, stream=False, user="x" * 200, stop=["y" * 256] * 16, prompt=["Once"] * 4 + ["z" * 200_000])
    bodies, full = [story(1, stream=False), long, story(1), large], count >= 4000

    async def flood(port: int) -> tuple[list, list[float], float]:
        over = asyncio.Event()
        watch = asyncio.create_task(health_times(port, over))
        answers = await asyncio.gather(*(ask(port, "/v1/completions", bodies[seed % 4]) for seed in range(count)))
        began = time.monotonic()
        assert (await ask(port, "/health")).status == 200
        healthy = time.monotonic() - began
        over.set()
        return answers, await watch, healthy

    # Small: four slots and 60 places. In full: as it comes.
    with Server(MODEL, *([] if full else ["--slots", "4", "--queue", "60"])) as one:
        assert asyncio.run(ask(one.port, "/v1/completions", long)).status == 200
        before = one.peak_bytes()
        answers, times, healthy = asyncio.run(flood(one.port))
        megabytes = (one.peak_bytes() - before) / 1e6
        assert asyncio.run(idle(one.port)) == (0, 0)
        # In the flood all the large bodies may have been turned away.
        assert asyncio.run(ask(one.port, "/v1/completions", large)).status == 400
    # What the large bodies ask for does not fit the model, which is said to those that are taken on.
    statuses = Counter((answer.status, number % 4 == 3) for number, answer in enumerate(answers))
    refused = [answer for answer in answers if answer.status == 429]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    taken, unfit = statuses[200, False], statuses[400, True]
    other = count - taken - unfit - len(refused)
    assert other == 0
    assert refused
    assert taken >= (300 if full else 16)
    assert healthy < 5
    assert megabytes < 500
    assert max(times) < 5000
    found = {"taken": taken, "unfit": unfit, "turned_away": len(refused), "other": other, "longest": max(times)}
    figures("flood", count, **found, healthy=healthy, megabytes=megabytes)


@sizes("gone")
def test_gone(count: int, running: Server, figures: Figures) -> None:
    """From stories that cannot end by themselves before 1,000 tokens."""

    async def go(seed: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        endless = {"model": "babble", "top_k": 50, "max_tokens": 1000, "stream": seed % 2 == 0}
        writer.write(request("/v1/completions", story(seed, n=2, **endless)))
        await writer.drain()
        if seed % 2 == 0 and seed % 3:
            await reader.readuntil(b"data: ")
        writer.transport.abort()

    async def come_and_go() -> tuple[tuple[float, ...], float]:
        before = await ask(running.port, "/v1/completions", story(7))
        (told,) = await figures_of(running.port, TOLD)
        for first in range(0, count, 100):
            await asyncio.gather(*(go(seed) for seed in range(first, min(first + 100, count))))
        left = await idle(running.port)
        (after,) = await figures_of(running.port, TOLD)
        again = await ask(running.port, "/v1/completions", story(7))
        assert [piece["choices"] for piece in before.pieces[:-1]] == [piece["choices"] for piece in again.pieces[:-1]]
        return left, (after - told) / count

    (running_left, waiting_left), tokens = asyncio.run(come_and_go())
    leaked = running_left + waiting_left
    assert leaked == 0
    assert tokens < 100  # of 2,000 that each had asked for
    figures("gone", count, leaked=int(leaked), tokens=tokens)


@sizes("slow")
def test_slow(count: int, running: Server, figures: Figures) -> None:
    async def dawdle() -> float:
        """Seconds until the server has had enough."""
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        began = time.monotonic()
        reading = asyncio.create_task(heard(reader, 30))
        for letter in request("/health")[:-4] + b"x" * 100:
            if reading.done():
                break
            writer.write(bytes([letter]))
            await asyncio.sleep(0.3)
        writer.close()
        assert await reading == b""
        return time.monotonic() - began

    async def beside() -> tuple[list[float], list[float]]:
        over = asyncio.Event()
        watch = asyncio.create_task(health_times(running.port, over))
        stayed = await asyncio.gather(*(dawdle() for _ in range(count)))
        over.set()
        return await watch, stayed

    times, stayed = asyncio.run(beside())
    p99 = statistics.quantiles(times, n=100)[-1]
    assert max(stayed) < 15  # 10, and some for a busy machine
    assert len(times) > 100
    assert p99 < (100 if count >= 500 else 2000)  # in full on a machine that does nothing else
    figures("slow", count, p99=p99, median=statistics.median(times), stayed=max(stayed))


@sizes("fuzz")
def test_fuzz(count: int, figures: Figures) -> None:
    """Against the application in a thread: a server's process would hide where a 500 comes from."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    from storylm.serve.api import create_app
    from storylm.serve.host import Host
    from storylm.serve.settings import ServeSettings

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    # A model whose longest stories are short: most requests ask for as much as there is.
    model = build(ModelConfig(**{**SHAPE, **VARIANTS["qwen3"]})).eval()
    app = create_app([Host("tiny", model, Tokenizer.load("bytes"), 32)], ServeSettings())
    with serving(app, ServeSettings()) as port:
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
    assert seen[200] > count / 20
    assert seen[400] > count / 20
    assert max(seen) < 500
    figures("fuzz", sum(seen.values()))

"""A request's stories from submission to end: deadlines, what is counted and when, and errors on the way."""

import asyncio
import json
import logging
import threading
import time

import pytest
from starlette.requests import ClientDisconnect

from serve.process import figure
from storylm.serve import service
from storylm.serve.batcher import Batcher, Event, Job
from storylm.serve.following import Following

URL = "/v1/completions"
BODY = {"model": "qwen3", "prompt": "a", "temperature": 0}
FIRST, WHOLE, OUTCOME = "storylm_first_token_seconds", "storylm_completion_seconds", "storylm_completions_total"


def figures(client, *names: str) -> list[float]:
    text = client.get("/metrics").text
    return [figure(text, name) for name in names]


def outcomes(client, *names: str) -> list[float]:
    return figures(client, *(f'{OUTCOME}{{outcome="{name}"}}' for name in names))


def ask(client, stream: bool, **fields) -> tuple[int, dict]:
    """The status, and the error of the answer or of the first piece of the stream."""
    answer = client.post(URL, json={**BODY, **fields, "stream": stream})
    if not stream:
        return answer.status_code, answer.json()["error"]
    lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return answer.status_code, json.loads(lines[-2].removeprefix("data: "))["error"]


@pytest.fixture
def paced(monkeypatch):
    """What steps wait for, in seconds before each."""
    seconds, step = [0.0], Batcher._step

    def slow(self: Batcher, host) -> None:
        time.sleep(seconds[0])
        step(self, host)

    monkeypatch.setattr(Batcher, "_step", slow)
    return seconds


def test_each_storys_first_token_is_timed_when_it_comes(client, paced):
    """All three come with the first step, and the last token four steps later."""
    paced[0] = 0.1
    assert client.post(URL, json={**BODY, "n": 3, "temperature": 1, "seed": 2, "max_tokens": 5}).status_code == 200
    count, total = figures(client, f"{FIRST}_count", f"{FIRST}_sum")
    assert count == 3
    assert 0.3 <= total < 0.6
    count, total = figures(client, f"{WHOLE}_count", f"{WHOLE}_sum")
    assert count == 1
    assert total >= 0.4
    assert outcomes(client, "told", "cancelled") == [1, 0]
    assert client.post(URL, json={**BODY, "max_tokens": 0}).status_code == 200
    assert figures(client, f"{FIRST}_count", f"{WHOLE}_count") == [3, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_one_deadline_to_the_first_token_and_one_to_the_last(served, paced, stream):
    """Steps are slow, yet in time for the first; of what is waited for, the message tells."""
    client = served(wait_seconds=0.5, tell_seconds=0.9)
    paced[0] = 0.2
    _, error = ask(client, stream, max_tokens=40, prompt="ab", n=2, temperature=1, seed=2)
    assert error["code"] == "too_late"
    assert "not told within 0.9 seconds" in error["message"]
    assert outcomes(client, "late", "told") == [1, 0]
    assert client.post(URL, json={**BODY, "max_tokens": 3}).status_code == 200  # 0.6 s, the first after 0.2
    paced[0] = 0.8
    status, error = ask(client, stream)
    assert "no token came within 0.5 seconds" in error["message"]
    assert status == (200 if stream else 503)
    assert figures(client, f"{WHOLE}_count") == [1]


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_that_nobody_foresaw_ends_the_request(client, stream, monkeypatch, caplog):
    """In what hears of events: it is told and logged, and nobody waits for ever."""
    monkeypatch.setattr(client.app.state.metrics.first, "observe", lambda seconds: 1 / 0)
    with caplog.at_level(logging.ERROR):
        status, error = ask(client, stream, n=2)
    assert (status, error["code"]) == (200 if stream else 500, "internal_error")
    assert error["message"].split()[-1] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert outcomes(client, "failed") == [1]
    monkeypatch.undo()
    assert client.post(URL, json=BODY).status_code == 200


def test_an_error_while_a_piece_is_made_ends_the_stream(client, monkeypatch, caplog):
    monkeypatch.setattr(service.Completion, "piece", lambda *_: 1 / 0)
    status, error = ask(client, True, max_tokens=30)
    assert (status, error["code"]) == (200, "internal_error")
    assert "ZeroDivisionError" in caplog.text


def test_a_fault_in_the_midst_of_a_stream_is_told(client, paced):
    paced[0] = 0.05
    batcher = client.app.state.batcher

    def fail() -> None:
        batcher.hosts["qwen3"].decoder.step = lambda: 1 / 0

    threading.Timer(0.2, fail).start()
    status, error = ask(client, True, prompt=["ab", "a"], temperature=1, seed=2, max_tokens=40)
    assert (status, error["code"]) == (200, "internal_error")
    assert outcomes(client, "failed") == [1]


def test_a_stream_that_nobody_came_to_hear_is_cancelled(client):
    """The answer is never begun, so that what would tell it never runs."""

    class Order(Batcher):
        def __init__(self) -> None:
            super().__init__([], 9)
            self.cancelled: list[Job] = []

        def submit(self, jobs: list[Job]) -> None: ...

        def cancel(self, jobs: list[Job]) -> None:
            self.cancelled += jobs

    async def go() -> None:
        batcher, state = Order(), client.app.state
        following = Following([Job(None, None)], batcher, state.metrics, service.ServeSettings(), True)  # type: ignore[arg-type]
        following.start()
        stream = service._Stream(service._pieces(None, following), following)  # type: ignore[arg-type]

        async def send(message) -> None:
            raise OSError

        with pytest.raises(ClientDisconnect):
            await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, send, send)
        assert len(batcher.cancelled) == 1
        following._hear(0, Event("late", 1))  # of the step that was on its way
        assert following.over.result() == "cancelled"

    asyncio.run(go())
    assert outcomes(client, "cancelled") == [1]

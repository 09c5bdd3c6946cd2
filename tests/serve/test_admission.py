"""What is refused before it is read, so that a flood costs neither memory nor time."""

import asyncio
import json
import threading
import time

import pytest

from serve.live import heard, serving
from storylm.serve import service
from storylm.serve.admission import Admission
from storylm.serve.api import create_app
from storylm.serve.batcher import Batcher
from storylm.serve.host import Host
from storylm.serve.settings import ServeSettings
from storylm.text.tokenizer import Tokenizer

URL = "/v1/completions"
BODY = {"model": "qwen3", "prompt": "a"}


def test_places_are_of_requests_and_of_bytes():
    settings = ServeSettings(queue=3, looks=2, body_bytes=100, bodies_bytes=250)
    batcher = Batcher([], limit=3)
    admission = Admission(batcher, settings)
    places = [admission.enter(URL, 90), admission.enter(URL, None)]  # of no told length: as large as may be
    assert None not in places
    assert admission.enter(URL, 61) is None
    assert admission.enter("/v1/attention", 61) is None
    places.append(admission.enter(URL, 60))
    assert admission.enter(URL, 0) is None  # 3 are there
    assert admission.enter("/health", 10**9) is not None
    for place in places:
        with place:
            pass
    batcher.jobs = 3
    assert admission.enter(URL, 0) is None
    batcher.jobs = 2
    assert admission.enter(URL, 100) is not None


def test_a_full_server_refuses_before_it_reads_a_body(served, monkeypatch):
    """It reads it after the answer, and throws it away."""
    monkeypatch.setattr(Batcher, "_begin", lambda self, job: None)
    client = served(slots=1, queue=0, wait_seconds=1)  # two models: two places
    app, batcher = client.app, client.app.state.batcher

    async def ask() -> dict:
        sent: list[dict] = []
        body = json.dumps(BODY).encode()
        read, answered = [], asyncio.Event()

        async def receive():
            read.append(answered.is_set())
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)
            answered.set() if message.get("body") else None

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"33")]
        scope = {"type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b""}
        scope |= {"headers": headers, "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}}
        await app(scope, receive, send)
        assert read, "it was not read at all"
        assert all(read), "the body was read before the answer was sent"
        return sent[0]

    waiting = [threading.Thread(target=client.post, args=(URL,), kwargs={"json": BODY}) for _ in range(2)]
    for thread in waiting:
        thread.start()
    while batcher.jobs < 2:
        time.sleep(0.01)
    refused = client.portal.call(ask)
    assert refused["status"] == 429
    assert (b"retry-after", b"2") in refused["headers"]
    for thread in waiting:
        thread.join()


def test_requests_whose_bodies_are_on_their_way_have_places(models, tokenizer):
    """None of them is a story yet, and still no more of them come in than there are places."""
    settings = ServeSettings(slots=2, queue=1)
    app = create_app([Host("qwen3", models["qwen3"], tokenizer, 2)], settings)
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    )
    body = json.dumps({**BODY, "max_tokens": 2}).encode()
    begun = head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5]

    async def come(port: int) -> None:
        three = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in three:
            writer.write(begun)
        await asyncio.sleep(0.3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        assert b" 429 " in await reader.readline()
        writer.close()
        for reader, other in three:
            other.write(body[5:])
            assert b" 200 " in (await heard(reader)).split(b"\r\n")[0]
            other.close()

    with serving(app, settings) as port:
        asyncio.run(come(port))


def test_what_cannot_fit_is_refused_before_it_is_cut_into_tokens(client, monkeypatch):
    def never(*_):
        raise AssertionError("it was cut")

    monkeypatch.setattr(service, "Completion", never)
    for url in (URL, "/v1/attention"):
        answer = client.post(url, json={**BODY, "prompt": "x" * 48})
        assert answer.status_code == 400
        assert "prompt is at least 49 tokens but the model's context is 48" in answer.json()["error"]["message"]
    assert client.post(URL, json={**BODY, "prompt": ["a", "x" * 1000]}).status_code == 400
    assert client.post(URL, json={**BODY, "prompt": "x" * 47}).status_code == 500


def test_more_stories_than_there_is_room_for_are_refused_before_too(served, monkeypatch):
    monkeypatch.setattr(service, "Completion", lambda *_: 1 / 0)
    assert served(slots=2, queue=3).post(URL, json={**BODY, "n": 8}).status_code == 429


@pytest.mark.parametrize("stream", [False, True])
def test_places_are_left_whatever_becomes_of_the_request(served, stream):
    client = served(slots=1, queue=0, looks=2, body_bytes=200, bodies_bytes=200)
    for _ in range(5):
        assert client.post(URL, json={**BODY, "prompt": "x" * 60, "stream": stream}).status_code == 400
        assert client.post("/v1/attention", content="{", headers={"content-type": "application/json"}).is_client_error
        large = (b"x" * 100 for _ in range(3))
        assert client.post(URL, content=large, headers={"content-type": "application/json"}).status_code == 413
        assert client.post(URL, json={**BODY, "stream": stream}).status_code == 200


def test_prompts_are_read_by_so_many_threads(served, monkeypatch):
    names, inner = set(), service.Completion

    def named(*given):
        names.add(threading.current_thread().name)
        time.sleep(0.05)
        return inner(*given)

    monkeypatch.setattr(service, "Completion", named)
    client = served()
    threads = [threading.Thread(target=client.post, args=(URL,), kwargs={"json": BODY}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(names) <= service.THREADS
    assert all(name.startswith("storylm-work") for name in names)


def test_the_longest_token_bounds_what_a_text_may_be(shared):
    assert Tokenizer.load("bytes").longest == 1
    gpt2 = Tokenizer.load(shared / "reference" / "gpt2")
    longest = max((gpt2.token_text(id) for id in range(gpt2.vocab_size)), key=lambda text: len(text.encode()))
    assert gpt2.longest == len(longest.encode()) == 128
    assert len(gpt2.encode(longest)) == 1
    assert Tokenizer.load(shared / "reference" / "mistral").longest is None  # it may make one of several spaces

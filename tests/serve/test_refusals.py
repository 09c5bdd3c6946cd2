"""What is not answered, how that is said, and that the server goes on."""

import asyncio
import json
import time

import pytest

from serve.process import figure
from storylm.config.errors import UsageError
from storylm.serve.answers import Broken
from storylm.serve.batcher import Batcher
from storylm.serve.settings import ServeSettings

URL = "/v1/completions"
KEY = "a-key-of-16-char"


def error(answer) -> dict:
    said = answer.json()["error"]
    assert set(said) == {"message", "type", "param", "code"}
    return said


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "gpt5"}, 404, "no model 'gpt5' here"),
        ({"model": "\ud800"}, 400, "model: "),
        ({"prompt": "x" * 60}, 400, "61 tokens but the model's context is 48"),
        ({"prompt": [1] * 48}, 400, "49 tokens but the model's context is 48"),
        ({"prompt": [999]}, 400, "token 999 is not one of the 257"),
        ({"prompt": [-1]}, 400, "prompt: give a text, token ids from 0 on"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": [True]}, 400, "prompt: give a text, token ids"),
        ({"prompt": [[1, False]]}, 400, "prompt: give a text, token ids"),
        ({"prompt": 7}, 400, "prompt"),
        ({"prompt": None}, 400, "prompt"),
        ({"prompt": "\ud800"}, 400, "prompt: give a text"),
        ({"prompt": ["a"] * 33, "n": 2}, 400, "33 prompts times n=2: at most 64"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": float("nan")}, 400, "temperature"),
        ({"temperature": float("inf")}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"n": 1000}, 400, "n: "),
        ({"logprobs": 21}, 400, "logprobs"),
        ({"stop": [""]}, 400, "stop"),
        ({"stop": ["a"] * 17}, 400, "stop"),
        ({"presence_penalty": 1}, 400, "presence_penalty"),
        ({"best_of": 2}, 400, "best_of"),
        ({"temprature": 1}, 400, "temprature"),
        ({"seed": 2**63}, 400, "seed"),
    ],
)
def test_what_cannot_be_answered_is_said_to_be(client, fields, status, words):
    body = json.dumps({"model": "qwen3", "prompt": "a", **fields})
    answer = client.post(URL, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert words in error(answer)["message"]
    assert client.app.state.batcher.jobs == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"model": "qwen3", "prompt": "\xff"}', b"null"]
)
def test_what_is_no_json_is_refused(client, body):
    answer = client.post(URL, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error(answer)


@pytest.mark.parametrize(
    ("body", "words", "field"),
    [
        (b'{"model": x', "the body is no JSON: Expecting value, at character 10", None),
        (b"\xff\xfe", "the body is no JSON: ", None),
        (b"", "the body is missing", None),
        (b"[1]", "the body is no JSON object", None),
        (b'{"prompt": "a"}', "model: is missing", "model"),
        (b'{"model": "qwen3", "temprature": 1}', "temprature: there is no such field", "temprature"),
        (b'{"model": "qwen3", "stop": [""]}', "stop: give a text of 1 to 256 characters", "stop"),
        (b'{"model": "qwen3", "prompt": ["a", "b"], "n": 64}', "2 prompts times n=64: at most 64", None),
    ],
)
def test_an_error_names_the_field_if_it_is_of_one(client, body, words, field):
    said = error(client.post(URL, content=body, headers={"content-type": "application/json"}))
    assert said["message"].startswith(words)
    assert said["param"] == field


@pytest.mark.parametrize("path", [URL, "/v1/attention"])
@pytest.mark.parametrize("prompt", ["x" * 60, [1] * 60])
def test_a_long_prompt_is_refused_in_words_of_the_api(client, path, prompt):
    said = error(client.post(path, json={"model": "qwen3", "prompt": prompt}))
    assert "61 tokens but the model's context is 48" in said["message"]
    assert "47" in said["message"]
    assert "--" not in said["message"]
    assert said["param"] == "prompt"


def test_other_bodies_are_refused(client):
    assert client.post(URL, content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post(URL, data={"model": "qwen3"}).status_code == 415
    headers = {"content-type": "application/json"}
    large = b'{"model": "' + b"x" * (1 << 20) + b'"}'
    assert client.post(URL, content=large, headers=headers).status_code == 413
    pieces = (large[at : at + 10_000] for at in range(0, len(large), 10_000))  # no length told before
    answer = client.post(URL, content=pieces, headers=headers)
    assert (answer.status_code, error(answer)["message"]) == (413, "the body is too large")


def test_other_paths_and_methods(client):
    assert error(client.get("/v2"))["code"] == "not_found"
    assert error(client.get(URL))["code"] == "method_not_allowed"
    assert client.get("/static/../settings.py").status_code == 404
    assert client.get("/docs").status_code == 404


def test_other_hosts_are_refused(served):
    client = served(allowed_hosts=("stories.example",))
    for host, status in (
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("stories.example", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("", 400),
    ):
        assert client.get("/health", headers={"host": host}).status_code == status, host


def test_a_key_where_there_is_one(served):
    client = served(host="0.0.0.0", api_key=KEY)
    body = {"model": "qwen3", "prompt": "a", "temperature": 0}
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": "Bearer é"},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer{KEY}"},
    ):
        answer = client.post(URL, json=body, headers={name: value.encode() for name, value in headers.items()})
        assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
        assert client.get("/metrics", headers={"x": "y"}).status_code == 401
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert client.post(URL, json=body, headers={"authorization": f"{scheme} {KEY}"}).status_code == 200
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200


def test_head_is_answered_as_get_without_its_body(client):
    for path in ("/", "/health", "/v1/models", "/static/main.js", "/nothing"):
        head, get = client.head(path), client.get(path)
        assert head.status_code == get.status_code
        assert head.content == b""
        assert head.headers["content-length"] == str(len(get.content))
    assert client.head(URL).status_code == 405


def test_what_nobody_foresaw_is_counted_and_guarded_like_any_answer(client, monkeypatch, caplog):
    monkeypatch.setattr(type(client.app.state.batcher), "check_room", lambda *_: 1 / 0)
    answer = client.post(URL, json={"model": "qwen3", "prompt": "a"})
    assert (answer.status_code, error(answer)["code"]) == (500, "internal_error")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert 'storylm_requests_total{path="/v1/completions",status="500"} 1.0' in client.get("/metrics").text


def test_a_broken_model_is_told_of_and_others_go_on(client, caplog):
    batcher = client.app.state.batcher
    host = batcher.hosts["qwen3"]
    host.decoder.step, host._open = lambda: 1 / 0, lambda: 1 / 0
    body = {"model": "qwen3", "prompt": "a"}
    assert client.get("/health").status_code == 200
    assert client.post(URL, json=body).status_code == 500
    while not batcher.broken:  # the answer comes first
        time.sleep(0.01)
    for stream in (False, True):
        answer = client.post(URL, json={**body, "stream": stream})
        assert (answer.status_code, error(answer)["code"]) == (503, "model_broken")
    health = client.get("/health")
    assert (health.status_code, health.json()) == (503, {"status": "broken", "broken": ["qwen3"]})
    assert Broken.model_validate(health.json())
    assert "Broken" in str(client.get("/openapi.json").json()["paths"]["/health"]["get"]["responses"]["503"])
    assert client.post(URL, json={**body, "model": "gpt_neo"}).status_code == 200
    assert "storylm_stories_running 0.0" in client.get("/metrics").text
    assert batcher.jobs == 0


def test_no_page_may_read_or_frame_it(client):
    answer = client.get("/v1/models", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_too_much_at_once_is_turned_away(served):
    client = served(slots=2, queue=3)  # two models: 4 slots and 3 that wait
    body = {"model": "qwen3", "prompt": ["a"] * 8, "temperature": 0}
    answer = client.post(URL, json=body)
    assert (answer.status_code, error(answer)["code"]) == (429, "too_many_requests")
    assert int(answer.headers["retry-after"]) > 0
    assert client.post(URL, json={**body, "prompt": ["a"] * 7}).status_code == 200
    assert client.app.state.batcher.jobs == 0


def test_who_waits_too_long_is_told(served, monkeypatch):
    monkeypatch.setattr(Batcher, "_begin", lambda self, job: None)
    client = served(wait_seconds=0.1)
    answer = client.post(URL, json={"model": "qwen3", "prompt": "a"})
    assert (answer.status_code, error(answer)["code"]) == (503, "too_late")
    assert "retry-after" in answer.headers
    with client.stream("POST", URL, json={"model": "qwen3", "prompt": "a", "stream": True}) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert json.loads(lines[0].removeprefix("data: "))["error"]["code"] == "too_late"


def test_a_fault_costs_the_jobs_of_its_model_and_no_more(client, caplog):
    batcher = client.app.state.batcher
    body = {"prompt": "a", "temperature": 0}
    before = client.post(URL, json={"model": "qwen3", **body}).json()["choices"]
    batcher.hosts["qwen3"].decoder.step = lambda: 1 / 0
    answer = client.post(URL, json={"model": "qwen3", **body})
    assert answer.status_code == 500
    number = error(answer)["message"].split()[-1]
    assert "ZeroDivisionError" not in answer.text
    assert number in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert client.post(URL, json={"model": "gpt_neo", **body}).status_code == 200
    assert client.post(URL, json={"model": "qwen3", **body}).json()["choices"] == before
    assert batcher.jobs == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "STORYLM_API_KEY"),
        ({"host": "::"}, "STORYLM_API_KEY"),
        ({"host": "example.com"}, "STORYLM_API_KEY"),
        ({"api_key": "short"}, "5 characters: take 16"),
        ({"api_key": "sesame-öffne-dich-jetzt"}, "cannot be sent in a header: take ASCII"),
        ({"api_key": "sesame, open now "}, "cannot be sent in a header: take ASCII"),
        ({"api_key": "sesame,\nopen now!"}, "cannot be sent in a header: take ASCII"),
        ({"slots": 0}, "slots=0"),
        ({"connections": 0}, "connections=0"),
        ({"tell_seconds": 0}, "tell_seconds=0 is not allowed"),
        ({"send_seconds": float("inf")}, "send_seconds=inf is not allowed"),
        ({"port": 70_000}, "port=70000"),
    ],
)
def test_settings_that_would_be_a_mistake(settings, words):
    with pytest.raises(UsageError, match=words):
        ServeSettings(**settings)
    assert ServeSettings(host="127.8.8.8").is_loopback
    assert ServeSettings(host="::1").hosts >= {"localhost", "[::1]"}


def test_gone_before_the_end_leaves_nothing(client, monkeypatch):
    """The application is told that the client has gone after its first piece of a stream, or while it waits."""
    batcher, step = client.app.state.batcher, Batcher._step

    def slow(self: Batcher, host) -> None:
        time.sleep(0.01)
        step(self, host)

    monkeypatch.setattr(Batcher, "_step", slow)

    async def ask(stream: bool) -> None:
        sent, gone = [], asyncio.Event()
        body = json.dumps({"model": "qwen3", "prompt": ["a"] * 20, "max_tokens": 40, "stream": stream}).encode()
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if given:
                return given.pop()
            if stream:
                await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if message.get("body"):
                gone.set()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b""}
        scope |= {"headers": headers, "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}}
        await client.app(scope, receive, send)
        for _ in range(500):
            if batcher.jobs == 0 and batcher.running == 0:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{batcher.jobs} jobs, {batcher.running} running")

    for number, stream in enumerate((True, False), 1):
        client.portal.call(ask, stream)
        # 20 stories of up to 40 tokens would be told, four at a time; nothing is drawn for them any more.
        assert batcher.told_tokens < 40 * number
        outcome = 'storylm_completions_total{outcome="cancelled"}'
        figures = client.get("/metrics").text
        assert figure(figures, outcome) == number
        assert figure(figures, "storylm_completion_seconds_count") == 0

"""A chat endpoint of our own that answers as it is told to: well, badly, late, or not at all."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = {"grammar": 7, "creativity": 4, "consistency": 6, "plot": 5, "age_group": "C"}


def completion(content: Any, finish: str = "stop") -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 30},
    }


def reply(handler: BaseHTTPRequestHandler, content: Any, status: int = 200, cut: int = 0, **headers: str) -> None:
    """Send JSON, its last `cut` bytes promised and never sent."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(raw)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(raw[: len(raw) - cut])
    handler.close_connection = True


# What can go wrong, by name; each is done to a request that should have had GOOD for an answer.
TROUBLES: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "no json": lambda handler: reply(handler, completion("I think this is a lovely story.")),
    "half-written json": lambda handler: reply(handler, completion('{"grammar": 7, "creativity": 4, "cons')),
    "half-written body": lambda handler: reply(handler, json.dumps(completion(GOOD)).encode()[:-20]),
    "body cut off": lambda handler: reply(handler, completion(GOOD), cut=20),
    "wrong schema": lambda handler: reply(handler, completion({"grade": 7})),
    "a word for a grade": lambda handler: reply(handler, completion({**GOOD, "plot": "good"})),
    "true for a grade": lambda handler: reply(handler, completion({**GOOD, "plot": True})),
    "half a grade": lambda handler: reply(handler, completion({**GOOD, "plot": 6.5})),
    "grade 11": lambda handler: reply(handler, completion({**GOOD, "grammar": 11})),
    "grade 0": lambda handler: reply(handler, completion({**GOOD, "grammar": 0})),
    "group G": lambda handler: reply(handler, completion({**GOOD, "age_group": "G"})),
    "a list": lambda handler: reply(handler, completion([7, 4, 6, 5])),
    "no choices": lambda handler: reply(handler, {"choices": []}),
    "null": lambda handler: reply(handler, {"choices": [{"message": {"content": None}}]}),
    "cut at its longest": lambda handler: reply(handler, completion(GOOD, finish="length")),
    "500": lambda handler: reply(handler, {"error": "oops"}, 500),
    "503": lambda handler: reply(handler, {"error": "later"}, 503, Retry_After="3"),
    "429": lambda handler: reply(handler, {"error": "slow down"}, 429, Retry_After="7"),
    "dropped": lambda handler: handler.connection.close(),
    "late": lambda handler: time.sleep(1.0),
}


class Server:
    """`script` says what becomes of the coming requests, one after another; when it is at its end, all go well."""

    def __init__(self) -> None:
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.grades: Callable[[str], dict[str, Any]] = lambda story: GOOD
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.requests.append({"path": handler.path, **body})
            self.keys.append(handler.headers.get("Authorization"))
            trouble = self.script.pop(0) if self.script else None
        if trouble is not None:
            trouble(handler)
        else:
            reply(handler, completion(self.grades(body["messages"][1]["content"])))


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                state.answer(self)
            except (OSError, ValueError):
                self.close_connection = True  # whoever asked has gone, or was hung up on

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

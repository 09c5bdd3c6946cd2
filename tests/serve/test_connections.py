"""Clients that are slow at anything: each loses its connection in time, and takes nothing from the others."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import torch

import storylm
from generation.conftest import SHAPE, VARIANTS, build
from launch.waiting import wait_until
from serve.live import heard, serving
from storylm.config.model import ModelConfig
from storylm.serve.api import create_app
from storylm.serve.host import Host
from storylm.serve.server import configuration
from storylm.serve.settings import ServeSettings
from storylm.text.tokenizer import Tokenizer

SHORT = {"header_seconds": 0.4, "body_seconds": 0.4, "send_seconds": 0.4}
HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\n" + HEAD
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def host() -> Host:
    # Its likeliest tokens are anything but the end: a story goes on until the context is full.
    model = build(ModelConfig(**{**SHAPE, **VARIANTS["qwen3"], "context": 4096, "tied": False})).eval()
    tokenizer = Tokenizer.load("bytes")
    with torch.no_grad():
        model.head_weight[tokenizer.end_id] = 0
        model.head_weight[:] *= 30
    host = Host("endless", model, tokenizer, 4)
    storylm.generate(model, tokenizer, "", max_new_tokens=1)  # C++ is built at the first use
    return host


Visit = Callable[[int], Awaitable[None]]


@pytest.fixture
def visited(host: Host) -> Callable[..., Any]:
    """Serves with settings, has visitors come, and returns the application."""

    def visit(visitors: Visit, **settings: Any) -> Any:
        chosen = ServeSettings(**{**SHORT, "slots": 4, **settings})
        app = create_app([host], chosen)
        with serving(app, chosen) as port:
            asyncio.run(visitors(port))
            # What is given up leaves after the step it is in, which the batcher no longer tells once the server ends.
            wait_until(lambda: app.state.batcher.jobs == 0)
        return app

    return visit


def request(**fields: Any) -> bytes:
    body = json.dumps({"model": "endless", "prompt": "a", **fields}).encode()
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost: loc",
        HEALTH + b"GET /hea",  # the second request of a connection
    ],
)
@pytest.mark.parametrize("drips", [False, True])
def test_headers_have_to_be_here_in_time(visited, said, drips):
    """However many bytes come meanwhile, one by one."""

    async def dawdle(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(said)

        async def drip() -> None:
            while drips and said:
                await asyncio.sleep(0.05)
                writer.write(b"x")

        dripping = asyncio.create_task(drip())
        told = await heard(reader, 5)
        assert 0.3 < time.monotonic() - began < 3
        assert told.count(b"200 OK") == said.count(HEALTH)
        dripping.cancel()
        writer.close()

    visited(dawdle)


def test_a_connection_may_rest_between_requests(visited):
    """Longer than headers may take, while none of them has come."""

    async def rest(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HEALTH[:20])
            await asyncio.sleep(0.2)
            writer.write(HEALTH[20:])
            assert b"200 OK" in await reader.readuntil(b'{"status": "ok"}')
            await asyncio.sleep(0.8)
        writer.close()

    visited(rest)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("drips", [False, True])
def test_a_body_has_to_be_here_in_time(visited, chunked, drips):
    async def dawdle(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        length, piece = (
            (b"Transfer-Encoding: chunked", b"1\r\n{\r\n") if chunked else (b"Content-Length: 1000000", b"{")
        )
        writer.write(POST + length + b"\r\n\r\n" + piece)

        async def drip() -> None:
            while drips:
                await asyncio.sleep(0.05)
                writer.write(piece)

        dripping = asyncio.create_task(drip())
        told = await heard(reader, 5)
        assert 0.3 < time.monotonic() - began < 3
        assert status(told) == 408
        assert b"did not come within 0.4 seconds" in told
        dripping.cancel()
        writer.close()

    visited(dawdle)


def test_a_refusal_is_heard_by_who_is_still_sending(visited):
    """Whose body is read to its end, or for so long: a connection closed on unread bytes is reset."""

    async def send(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"localhost", b"elsewhere") + b"Content-Length: 1000000\r\n\r\n")
        for _ in range(10):
            writer.write(b"x" * 100_000)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert status(await heard(reader)) == 400
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
        began = time.monotonic()
        assert status(await heard(reader, 5)) == 200
        assert time.monotonic() - began < 3
        writer.close()

    visited(send)


def narrow(port: int) -> socket.socket:
    """A connection that the kernel keeps little for."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(("127.0.0.1", port))
    one.setblocking(False)
    return one


@pytest.mark.parametrize("stream", [True, False])
def test_who_does_not_read_is_dropped_and_its_stories_with_it(visited, stream, monkeypatch):
    from storylm.serve import connections

    monkeypatch.setattr(connections.Connection, "connection_made", small(connections.Connection.connection_made))
    left: list[Any] = []

    async def ask(port: int) -> None:
        loop = asyncio.get_running_loop()
        fields = {"logprobs": 20, "max_tokens": 4000, "n": 4}
        if not stream:
            fields = {"logprobs": 20, "max_tokens": 0, "echo": True, "prompt": "x" * 1500}
        with narrow(port) as one:
            await loop.sock_sendall(one, request(stream=stream, **fields))
            began = time.monotonic()
            # Until it has come and is gone; not longer, since a connection at rest is closed after 15 seconds.
            while (not alive or app_connections()) and time.monotonic() - began < 14:
                await asyncio.sleep(0.05)
            left.extend(app_connections())

    def app_connections() -> list[Any]:
        return [one for one in alive if not one.transport.is_closing() or one.transport.get_write_buffer_size()]

    alive.clear()
    app = visited(ask)
    assert len(alive) == 1
    assert left == []
    assert app.state.batcher.told_tokens < 4 * 4000


alive: list[Any] = []


def small(made: Callable) -> Callable:
    """Has the kernel keep little on this side, too, and remembers the connection."""

    def connection_made(self, transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made(self, transport)
        alive.append(self)

    return connection_made


def test_who_reads_slowly_but_reads_is_told_all(visited, monkeypatch):
    """More than so many bytes in so many seconds, although all of it takes longer."""
    from storylm.serve import connections

    monkeypatch.setattr(connections.Connection, "connection_made", small(connections.Connection.connection_made))
    monkeypatch.setattr(connections, "AT_ONCE", 20_000)
    enough = 2.0  # seconds for twenty times as much, so that a busy machine may stop for a while

    async def ask(port: int) -> None:
        told, began = b"", time.monotonic()
        loop = asyncio.get_running_loop()
        with narrow(port) as one:
            asked = request(logprobs=20, max_tokens=0, echo=True, prompt="x" * 1500)
            await loop.sock_sendall(one, asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while piece := await loop.sock_recv(one, 4096):
                told += piece
                await asyncio.sleep(0.02)
        length = int(told.lower().split(b"content-length: ")[1].split()[0])
        assert len(told.partition(b"\r\n\r\n")[2]) == length
        assert time.monotonic() - began > 2 * enough

    visited(ask, send_seconds=enough)


def test_more_connections_than_there_may_be_are_told_so(visited):
    async def come(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTH)
        told = await heard(reader)
        assert status(told) == 503
        assert b"Retry-After: 2" in told
        assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
        for _, other in (*idle, (reader, writer)):
            other.close()
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert status(await heard(reader)) == 200
        writer.close()

    app = visited(come, connections=5, header_seconds=20)
    assert b'path="other",status="503"} 1.0' in app.state.metrics.text()


def test_so_many_files_as_may_be_are_allowed():
    pytest.importorskip("resource")
    script = """
import resource
from storylm.serve.connections import allow_files
from storylm.serve.settings import ServeSettings
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, min(hard, 4000)))
print(allow_files(ServeSettings()).connections, allow_files(ServeSettings(connections=9)).connections)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["3872", "9", "4000"], done.stderr


def test_websockets_are_no_way_around_the_guard(host):
    settings = ServeSettings()
    configured = configuration(create_app([host], settings), settings)
    assert configured.ws == "none"  # whether or not a library for them is installed

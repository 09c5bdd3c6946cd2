"""Connections that nobody holds by being slow: deadlines below HTTP, and a bound on how many there are."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from storylm.serve.errors import RETRY_SECONDS, error_body
from storylm.serve.settings import ServeSettings

log = logging.getLogger("storylm.serve")
SPARE = 64  # connections above the bound, which are told that they are
SPARE_SECONDS = 1.0  # for them to ask for something
OTHER_FILES = 64  # that a process has open besides its connections
AT_ONCE = 1 << 20  # bytes of an answer that a client has `send_seconds` to take
FULL = json.dumps(error_body(503, "too_many_connections", "there are too many connections: come again later"))
TURNED_AWAY = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    f"Retry-After: {RETRY_SECONDS}\r\nContent-Length: {len(FULL)}\r\n\r\n{FULL}"
).encode()


def allow_files(settings: ServeSettings) -> ServeSettings:
    """Let this process have as many files open as it may; fewer connections where these do not suffice."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such bound
        return settings
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (ValueError, OSError):  # macOS: no more than the kernel has, although it says that there is no bound
        log.warning("this process may have %d files open", soft)
    room = settings.connections if soft == resource.RLIM_INFINITY else soft - SPARE - OTHER_FILES
    return replace(settings, connections=max(1, min(settings.connections, room)))


class Connection(H11Protocol):
    """uvicorn's, which itself has a deadline only for the next request of a connection that had one."""

    def __init__(self, *arguments: Any, settings: ServeSettings, refused: Callable[[], None], **named: Any):
        """`refused` is called for each connection that is turned away."""
        super().__init__(*arguments, **named)
        self._settings, self._refused = settings, refused
        self._turned_away = False
        self._deadlines: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing is paused as soon as the other side does not take all: the deadline for that begins then.
        transport.set_write_buffer_limits(high=0)
        above = len(self.connections) - self._settings.connections
        self._turned_away = above > 0
        if above > SPARE:
            self._refused()
            transport.abort()
        else:
            self._expect_headers(SPARE_SECONDS if self._turned_away else self._settings.header_seconds)

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            self._refused()
            self.transport.write(TURNED_AWAY)
            self.transport.close()
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_headers(self._settings.header_seconds)
        else:
            self._in_time("headers")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:  # the next request has begun meanwhile
            self._expect_headers(self._settings.header_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._in_time("taking")

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._deadlines):
            self._in_time(name)
        super().connection_lost(exc)

    def _expect_headers(self, seconds: float) -> None:
        if "headers" not in self._deadlines:
            self._within("headers", seconds, self._drop)

    def _expect_taking(self, size: int) -> None:
        self._within("taking", self._settings.send_seconds, lambda: self._taken(size))

    def _taken(self, before: int) -> None:
        """Of what was to be taken so long ago, `before` bytes, as much is that the connection may stay."""
        left = self.transport.get_write_buffer_size()
        if left > before - AT_ONCE:
            self._drop()
        else:
            self._expect_taking(left)

    def _drop(self) -> None:
        self.transport.abort()  # not `close`, which waits until all is taken

    def _within(self, name: str, seconds: float, otherwise: Callable[[], None]) -> None:
        self._deadlines[name] = self.loop.call_later(seconds, otherwise)

    def _in_time(self, name: str) -> None:
        if deadline := self._deadlines.pop(name, None):
            deadline.cancel()

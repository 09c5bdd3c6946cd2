"""A server on a real socket, in a thread of this process; and requests byte by byte."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from storylm.serve.server import configuration
from storylm.serve.settings import ServeSettings


@contextmanager
def serving(app: FastAPI, settings: ServeSettings) -> Iterator[int]:
    """The port that the application is served at, as `storylm serve` does."""
    configured = configuration(app, settings)
    configured.port = 0
    server = uvicorn.Server(configured)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


async def heard(reader: asyncio.StreamReader, seconds: float = 20) -> bytes:
    """All that comes until the server closes the connection, or resets it."""
    told = b""
    async with asyncio.timeout(seconds):
        try:
            while piece := await reader.read(1 << 16):
                told += piece
        except ConnectionResetError:
            pass
    return told

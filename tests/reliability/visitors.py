"""Who comes to a server: requests over plain sockets, thousands at once."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from serve.process import figure

MODEL = "grammar-1m"


@dataclass(frozen=True)
class Answer:
    """Status, headers by their names in small letters, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def pieces(self) -> list[Any]:
        """What server-sent events told, the last of which is "[DONE]"."""
        lines = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


def request(path: str, body: Any = None) -> bytes:
    """A request as it goes over the wire. HTTP/1.0, so that the answer ends where the connection does."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.0\r\nHost: localhost\r\n"
    content = b"" if body is None else json.dumps(body).encode()
    if content:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return (head + "\r\n").encode() + content


async def ask(port: int, path: str, body: Any = None) -> Answer:
    """Ask and wait for the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(path, body))
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, content)


def story(seed: int, **fields: Any) -> dict[str, Any]:
    """A request for 32 tokens."""
    return {"model": MODEL, "prompt": "Once", "max_tokens": 32, "seed": seed, "stream": True, **fields}


async def figures_of(port: int, *names: str) -> tuple[float, ...]:
    """Of /metrics."""
    text = (await ask(port, "/metrics")).body.decode()
    return tuple(figure(text, name) for name in names)

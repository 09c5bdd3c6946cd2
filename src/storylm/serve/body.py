"""A request's body as it comes: of a bounded size, and in time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Body:
    """Receives a body of at most `limit` bytes that is `over` within so many seconds from now."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], limit: int, seconds: float):
        self._receive, self._limit, self._seconds = receive, limit, seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._taken = 0
        self.over = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next message, as ASGI has it.

        Raises:
            HTTPException: 408, the body is late; 413, it is too large, where its length was not told before.
        """
        message = await self._next()
        self._taken += len(message.get("body", b""))
        if self._taken > self._limit:
            raise HTTPException(413, "the body is too large")
        return message

    async def drain(self) -> None:
        """Take the rest and forget it.

        Where a connection is closed before all is read that came, the other side is told that it was reset, and may
        never see the answer.
        """
        with suppress(HTTPException):
            while not self.over:
                await self._next()

    async def _next(self) -> Message:
        if self.over:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the body did not come within {self._seconds:g} seconds") from None
        self.over = not message.get("more_body", False)
        return message

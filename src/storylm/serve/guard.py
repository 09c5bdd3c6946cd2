"""What stands before every request: the right host, a key where there is one, a body of the right kind and size."""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from storylm.serve.settings import ServeSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health", "/", "/favicon.ico")  # and /static/: no secrets there, and a browser sends no key for them
PRIVATE_PATHS = ("/metrics",)  # of a public server: how busy it is concerns those who run it
# The page needs nothing from anywhere else, and no other page may read what is told, or frame it unless it is named.
POLICY = "default-src 'self'; frame-ancestors {frames}; base-uri 'none'; form-action 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # a browser asks whether its page is still the server's: parts of two would not fit
}


class Guard:
    """Refuses with 400, 401, 404, 413 or 415 what should not come to the application; ASGI, so streams stay streams."""

    def __init__(self, app: Asgi, settings: ServeSettings, count: Callable[[str, int], None]):
        """`count` hears of every answer: its path and status."""
        self.app, self.settings, self.count = app, settings, count
        policy = POLICY.format(frames=" ".join(settings.frame_origins) or "'none'")
        headers = {"content-security-policy": policy, **HEADERS}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        sending = self._sending(scope["path"], send)
        if refused is None:
            await self.app(scope, self._bounded(receive), sending)
        else:
            await answer(sending, *refused)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        """Status, code and message of a refusal."""
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
        if name.lower() not in self.settings.hosts:
            return 400, "unknown_host", f"this server is not called {name!r}: see --allow-host"
        path, key = scope["path"], self.settings.api_key
        if key is not None and path not in OPEN_PATHS and not path.startswith("/static/"):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), key.encode()):
                return 401, "invalid_api_key", "send the server's key, as in the header Authorization: Bearer KEY"
        if self.settings.public and path in PRIVATE_PATHS:
            return 404, "not_found", f"{path} is not for everyone: this server is public"
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "unsupported_media_type", f"the body is {kind or 'of no type'}: send application/json"
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > self.settings.body_bytes:
                return 413, "body_too_large", f"the body has more than {self.settings.body_bytes:,} bytes"
        return None

    def _sending(self, path: str, send: Send) -> Send:
        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.count(path, message["status"])
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        return sending

    def _bounded(self, receive: Receive) -> Receive:
        """A body sent in chunks says nothing of its length before."""
        taken = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.settings.body_bytes:
                raise TooLargeError
            return message

        return bounded


class TooLargeError(HTTPException):
    """The body turned out to be too large while it was read."""

    def __init__(self) -> None:
        super().__init__(413, "the body is too large")


async def answer(send: Send, status: int, code: str, message: str, **headers: str) -> None:
    """An error as OpenAI's API tells it."""
    body = json.dumps(error_body(status, code, message)).encode()
    sent = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def error_body(status: int, code: str, message: str, parameter: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}

"""Before every request: the right host, a key where there is one, room, a body of the right kind and size."""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from storylm.serve.admission import Admission
from storylm.serve.body import Body, Message, Receive
from storylm.serve.errors import REFUSALS, error_body, respond
from storylm.serve.settings import ServeSettings

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
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
    """Refuses with 400, 401, 404, 413, 415 or 429 what should not come to the application, before its body is read.

    ASGI, so that streams stay streams.
    """

    def __init__(self, app: Asgi, settings: ServeSettings, admission: Admission, count: Callable[[str, int], None]):
        """`count` hears of every answer: its path and status."""
        self.app, self.settings, self.admission, self.count = app, settings, admission, count
        policy = POLICY.format(frames=" ".join(settings.frame_origins) or "'none'")
        headers = {"content-security-policy": policy, **HEADERS}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = Body(receive, headers, self.settings.body_bytes, self.settings.body_seconds)
        sending = self._sending(scope, send, body)
        refused = self._refused(scope, headers)
        length = headers.get("content-length", "" if "transfer-encoding" in headers else "0")
        place = self.admission.enter(scope["path"], int(length) if length else None) if refused is None else None
        if place is not None:
            with place:
                # To HEAD a GET is answered, but for its body.
                asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self.app(asked, body.receive, sending)
        else:
            status, code, message = refused or (429, "too_many_requests", REFUSALS[429])
            await respond(error_body(status, code, message), status)(scope, receive, sending)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        """Status, code and message of a refusal."""
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
        if name.lower() not in self.settings.hosts:
            return 400, "unknown_host", f"this server is not called {name!r}: see --allow-host"
        path, key = scope["path"], self.settings.api_key
        if key is not None and path not in OPEN_PATHS and not path.startswith("/static/"):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), key.encode())
            if scheme.lower() != "bearer" or not right:
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

    def _sending(self, scope: Scope, send: Send, body: Body) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.count(scope["path"], message["status"])
                close = [] if body.over else [(b"connection", b"close")]
                message = {**message, "headers": [*message.get("headers", ()), *self._headers, *close]}
            elif message["type"] == "http.response.body":
                if scope["method"] == "HEAD":
                    message = {**message, "body": b""}
                if not body.over and not message.get("more_body", False):
                    await send({**message, "more_body": True})
                    await body.drain()
                    message = {"type": "http.response.body"}
            await send(message)

        return sending

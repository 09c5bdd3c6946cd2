"""One request to an OpenAI-compatible chat endpoint, and every way in which it can fail sorted into what to do next."""

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from unicodedata import category
from urllib.parse import urlsplit

from storylm.config.errors import SetupError, UsageError
from storylm.evaluation.judge.pace import retry_after
from storylm.evaluation.judge.rubric import BadAnswer

LARGEST_ANSWER = 2**22  # bytes
TRY_AGAIN = (408, 409, 425, 429)
"""Besides every 5xx."""


class Busy(Exception):  # noqa: N818 - not ours to mend
    """No answer this time; `wait` is how many seconds the server asks for."""

    def __init__(self, why: str, wait: float | None = None):
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class Answer:
    """What the model said, and the tokens that were counted for it (None where the server does not tell)."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where the judge is. The key is sent there and nowhere else: it is in no message, file or redirect."""

    url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise UsageError(f"--endpoint {self.url} is no address such as https://api.openai.com/v1")
        if self.key and parts.scheme == "http" and not _is_here(parts.hostname):
            raise UsageError(f"--endpoint {self.url} would have the key travel in the open: use https")

    @property
    def chat(self) -> str:
        """Where chats are completed.

        >>> Endpoint("http://localhost:8000/v1/").chat
        'http://localhost:8000/v1/chat/completions'
        """
        url = self.url.rstrip("/")
        return url if url.endswith("/chat/completions") else f"{url}/chat/completions"

    def ask(self, body: dict[str, Any]) -> Answer:
        """The model's answer to one request.

        Raises:
            Busy: it makes sense to ask again later.
            BadAnswer: it answered, but not with a message.
            SetupError: it does not make sense to ask again.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "storylm"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.chat, json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                raw = response.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:  # refused, cut off, timed out
            reason = getattr(error, "reason", error)
            raise Busy(f"no answer: {self._told(str(reason) or type(reason).__name__)}") from None
        if len(raw) > LARGEST_ANSWER:
            raise BadAnswer(f"the answer is longer than {LARGEST_ANSWER >> 20} MiB")
        return _answer(raw)

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        try:
            said = error.read(10_000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            said = ""
        why = f"{error.code} {self._told(said or str(error.reason))}"
        if error.code in TRY_AGAIN or error.code >= 500:
            return Busy(why, retry_after(error.headers.get("Retry-After")))
        advice = {
            401: "is the key right that the environment variable named by --api-key-env holds?",
            403: "may the key ask this model?",
            404: "are --endpoint and --judge right?",
            400: "it may know no JSON schemas (--no-schema) or not this --judge-temperature",
            422: "it may know no JSON schemas (--no-schema)",
        }
        return SetupError(f"{self.chat} refuses ({why})" + (f": {advice[error.code]}" if error.code in advice else ""))

    def _told(self, text: str) -> str:
        """What a stranger said, fit for a terminal, and without the key."""
        text = " ".join("".join(" " if category(letter)[0] == "C" else letter for letter in text).split())
        text = text.replace(self.key, "***") if self.key else text
        return text[:300]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _answer(raw: bytes) -> Answer:
    try:
        content = json.loads(raw)
        choice = content["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise BadAnswer(f"the server's answer is no chat completion: {error!r}"[:200]) from error
    if not isinstance(text, str) or not text.strip():
        raise BadAnswer("the answer is empty")
    if choice.get("finish_reason") == "length":
        raise BadAnswer("the answer was cut at its longest")
    usage = content.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    numbers = [counted.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Answer(text, *(number if isinstance(number, int) else None for number in numbers))


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""One request to an OpenAI-compatible chat endpoint, and every way in which it can fail sorted into what to do next."""

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unicodedata import category
from urllib.parse import urlsplit

from storylm.config.errors import SetupError, UsageError
from storylm.evaluation.judge.pace import retry_after
from storylm.evaluation.judge.rubric import BadAnswer

LARGEST_ANSWER = 2**22  # bytes
TRY_AGAIN = (408, 409, 425, 429)
"""Besides every 5xx."""
ADVICE = {
    401: "is the key right that the environment variable named by --api-key-env holds?",
    403: "may the key ask this model?",
    404: "are --endpoint and --judge right?",
}
NOT_TAKEN = (400, 422)
"""The server does not take something in the request; it mostly names what."""
ADVICE_BY_NAME = {
    "temperature": "it may not take this --judge-temperature",
    "max_": "it may not take this --judge-max-tokens",
    "response_format": "it may know no JSON schemas (--no-schema)",
    "schema": "it may know no JSON schemas (--no-schema)",
}


class Busy(Exception):  # noqa: N818 - not ours to mend
    """No answer this time; `wait` is how many seconds the server asks for."""

    def __init__(self, why: str, wait: float | None = None):
        super().__init__(why)
        self.wait = wait


class NotTakenError(SetupError):
    """The server does not take the request as it is; `said` is what it says about that."""

    def __init__(self, message: str, said: str):
        super().__init__(message)
        self.said = said


@dataclass(frozen=True)
class Answer:
    """What the model said, whether it was `cut` off as too long, and the tokens that were counted for it (None where
    the server does not tell)."""

    text: str
    cut: bool = False
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
        if self.key and parts.scheme == "http" and not self._is_here:
            raise UsageError(f"--endpoint {self.url} would have the key travel in the open: use https")

    @property
    def base(self) -> str:
        """The address, one for all ways to write it.

        >>> Endpoint("http://localhost:8000/v1/").base
        'http://localhost:8000/v1'
        """
        return self.url.rstrip("/").removesuffix("/chat/completions")

    @property
    def chat(self) -> str:
        """Where chats are completed."""
        return f"{self.base}/chat/completions"

    def check_answers(self) -> None:
        """Raise `SetupError` where nobody answers there, whatever the answer."""
        try:
            self._opener.open(self.base, timeout=self.timeout).close()
        except urllib.error.HTTPError as error:
            error.close()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SetupError(
                f"--endpoint {self.url} does not answer ({self._told(str(reason) or type(reason).__name__)}): is the "
                "server running, and is the address right?"
            ) from None

    def ask(self, body: dict[str, Any]) -> Answer:
        """The model's answer to one request.

        Raises:
            Busy: it makes sense to ask again later.
            BadAnswer: what came is no chat completion.
            NotTakenError: it may make sense to ask with other parameters.
            SetupError: it does not make sense to ask again.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "storylm"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.chat, json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
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

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        # To this machine without a proxy: the key would travel to the proxy in the open. Https is a tunnel through it.
        direct = [urllib.request.ProxyHandler({})] if self._is_here else []
        return urllib.request.build_opener(_NoRedirect, *direct)

    @property
    def _is_here(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        try:
            said = error.read(10_000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            said = ""
        why = f"{error.code} {self._told(said or str(error.reason))}"
        if error.code in TRY_AGAIN or error.code >= 500:
            return Busy(why, retry_after(error.headers.get("Retry-After")))
        refuses = f"{self.chat} refuses ({why})"
        if error.code in NOT_TAKEN:
            named = dict.fromkeys(advice for name, advice in ADVICE_BY_NAME.items() if name in said)
            return NotTakenError(f"{refuses}: {', or '.join(named or dict.fromkeys(ADVICE_BY_NAME.values()))}", said)
        return SetupError(f"{refuses}: {ADVICE[error.code]}" if error.code in ADVICE else refuses)

    def _told(self, text: str) -> str:
        """What a stranger said, fit for a terminal, and without the key."""
        text = " ".join("".join(" " if category(letter)[0] == "C" else letter for letter in text).split())
        text = text.replace(self.key, "***") if self.key else text
        return text[:300]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _answer(raw: bytes) -> Answer:
    try:
        content = json.loads(raw)
        choice = content["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise BadAnswer(f"the server's answer is no chat completion: {error!r}"[:200]) from error
    usage = content.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    numbers = [counted.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Answer(
        text if isinstance(text, str) else "",  # a judge that thinks may come to no word before it is cut off
        choice.get("finish_reason") == "length",
        *(number if isinstance(number, int) else None for number in numbers),
    )

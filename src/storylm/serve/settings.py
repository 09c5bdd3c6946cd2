"""`ServeSettings`: where a server listens, whom it answers, and how much it takes on."""

import ipaddress
import math
import re
from dataclasses import dataclass

from storylm.config.errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MIN_KEY = 16  # characters
SENDABLE = re.compile(r"[!-~]([ -~]*[!-~])?")  # as a header: ASCII, and no space at an end, which would be cut off
ORIGIN = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)*(:\d{1,5})?")  # no path, no "*", nothing that parts a header


@dataclass(frozen=True)
class ServeSettings:
    """`slots` stories of a model are told at once; `queue` more may wait, of all models together.

    Nobody holds a place by being slow: headers and bodies have to come in time, and answers to be taken.
    `public` serves everyone who reaches the address, without a key: stories and attention, but no figures at /metrics.
    `frame_origins` are sites whose pages may show the playground in a frame, and so lead a click astray.

    Raises:
        UsageError: an address that others can reach without a key that they have to know, unless `public`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    public: bool = False
    frame_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()  # besides the loopback names and `host`
    slots: int = 32
    queue: int = 1024
    looks: int = 32  # requests for attention on their way
    connections: int = 8192  # beyond them 503
    body_bytes: int = 1 << 20
    bodies_bytes: int = 64 << 20  # of all requests on their way; beyond them 429
    header_seconds: float = 10.0  # from a request's first byte, or the connection, to the end of its headers
    body_seconds: float = 30.0  # from there to the end of its body
    send_seconds: float = 30.0  # for a client to take each MiB of an answer, or the rest of it
    wait_seconds: float = 120.0  # to the first token of the first story of a request
    tell_seconds: float = 900.0  # to the last token of the last

    def __post_init__(self) -> None:
        for name, least in {"slots": 1, "queue": 0, "connections": 1, "looks": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} is not allowed: it is {least} or more")
        for name in ("header_seconds", "body_seconds", "send_seconds", "wait_seconds", "tell_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} is not allowed: it is a number above 0")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port={self.port} is not allowed: it is from 0 (any that is free) to 65535")
        if self.api_key is not None and len(self.api_key) < MIN_KEY:
            raise UsageError(f"the API key has {len(self.api_key)} characters: take {MIN_KEY} or more")
        if self.api_key is not None and not SENDABLE.fullmatch(self.api_key):
            raise UsageError("the API key cannot be sent in a header: take ASCII characters, without a space at an end")
        if self.public and self.api_key is not None:
            raise UsageError("--public asks nobody for a key, and there is one: leave --public or STORYLM_API_KEY out")
        for origin in self.frame_origins:
            if not ORIGIN.fullmatch(origin.lower()):
                raise UsageError(f"--allow-frame {origin!r} is no origin: give one, as in https://huggingface.co")
        if self.api_key is None and not self.public and not self.is_loopback:
            raise UsageError(
                f"--host {self.host} can be reached by others: set a key that they have to send, in the variable "
                "STORYLM_API_KEY, leave --host out to serve this machine alone, or say --public to serve everyone"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """What a request's `Host` may be, without the port: others come from pages that were made to point here."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*LOOPBACK, own, *self.allowed_hosts))

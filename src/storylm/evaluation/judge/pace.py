"""When to ask: so many requests a minute, and longer pauses where the server is busy or says how long it will be."""

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock

LONGEST_BACKOFF = 60.0  # seconds, of our own choice
LONGEST_WAIT = 600.0  # seconds, where the server asks for it


class Pace:
    """Gives out turns to any number of threads, evenly spaced.

    >>> now = [0.0]
    >>> pace = Pace(30, clock=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    >>> for _ in range(3):
    ...     pace.wait()
    >>> now
    [4.0]
    """

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ):
        self._between, self._clock, self._sleep = 60 / per_minute, clock, sleep
        self._next, self._lock = -math.inf, Lock()

    def wait(self) -> None:
        """Until it is the caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._between
        if turn > now:
            self._sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """No turn for anyone for so long: a server that is busy is so for all."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


def backoff(attempt: int, generator: random.Random) -> float:
    """Seconds to wait after failure number `attempt` (from 0): twice as long each time.

    A random part, up to a half, is left out, so that many who failed together do not come back together.
    """
    return min(LONGEST_BACKOFF, 2.0**attempt) * generator.uniform(0.5, 1.0)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After header asks for, given as a number or as a date; None where it says nothing.

    >>> retry_after("7"), retry_after("soon"), retry_after(None)
    (7.0, None, None)
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            then = parsedate_to_datetime(header)
        except ValueError:
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = (then - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None

"""Where the seconds of a run go."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Times steps and the whole run. Judging, telling and saving are `pause`s: no part of the step they fall into.

    The run may have `started` (`time.monotonic`) some time ago, and its first step begins now. `before` are the
    seconds that the run had used when it was interrupted. `seconds_per_step` is the median of the last calls of
    `step`; 0 until two are done, as the first one compiles.
    """

    def __init__(self, started: float | None = None) -> None:
        self.before = 0.0
        self.seconds_per_step = 0.0
        self._saved = self._stepped = time.monotonic()
        self._started = self._stepped if started is None else started
        self._recent: deque[float] = deque(maxlen=16)
        self._calls, self._seconds, self._tokens = 0, 0.0, 0

    def step(self, tokens: int, steps: int = 1) -> None:
        """Some steps, on so many tokens in all, are done since the last call."""
        now = time.monotonic()
        seconds, self._stepped = now - self._stepped, now
        self._seconds += seconds
        self._tokens += tokens
        self._calls += 1
        if self._calls > 1:
            self._recent.append(seconds / steps)
            self.seconds_per_step = sorted(self._recent)[len(self._recent) // 2]

    def tokens_per_second(self) -> float:
        """Of the steps since it was last asked."""
        speed = self._tokens / max(1e-9, self._seconds)
        self._seconds, self._tokens = 0.0, 0
        return speed

    def elapsed(self) -> float:
        """Seconds of the whole run, interruptions left out."""
        return self.before + time.monotonic() - self._started

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens in here is not training."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._stepped += time.monotonic() - began

    def since_save(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self._saved

    def saved(self) -> None:
        """A checkpoint has been written."""
        self._saved = time.monotonic()

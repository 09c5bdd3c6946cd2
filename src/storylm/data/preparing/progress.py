"""How preparing stories goes on: figures for whoever watches, and a line for the console."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

PLAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands. `share` of it is done (None: no telling), after `seconds`."""

    stage: str
    share: float | None
    seconds: float
    text_bytes: int = 0
    stories: int = 0
    tokens: int = 0

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest takes at this rate; None where there is no telling."""
        return self.seconds * (1 - self.share) / self.share if self.share else None

    def line(self) -> str:
        """One line for people.

        >>> Progress("encoding", 0.5, 10.0, text_bytes=100_000_000, stories=120_000, tokens=25_000_000).line()
        'encoding: 50 %, 120,000 stories, 100 MB at 10.0 MB/s, 2.5M tokens/s, 10 s left'
        """
        parts = [] if self.share is None else [f"{self.share:.0%}".replace("%", " %")]
        rate = 1 / max(self.seconds, 1e-9)
        if self.stories:
            parts.append(f"{self.stories:,} stories")
        if self.text_bytes:
            parts.append(f"{self.text_bytes / 1e6:.0f} MB at {self.text_bytes / 1e6 * rate:.1f} MB/s")
        if self.tokens:
            parts.append(f"{self.tokens / 1e6 * rate:.1f}M tokens/s")
        if self.remaining is not None and self.share != 1:
            minutes, seconds = divmod(round(self.remaining), 60)
            parts.append(f"{f'{minutes} min ' if minutes else ''}{seconds} s left")
        return f"{self.stage}: {', '.join(parts)}" if parts else self.stage


Watch = Callable[[Progress], None]


class Stage:
    """A stage in progress: tells `watch` of it with the seconds since it began."""

    def __init__(self, name: str, watch: Watch | None):
        self.name, self.watch, self.began = name, watch, time.monotonic()
        self.tell(None)

    def tell(self, share: float | None, text_bytes: int = 0, stories: int = 0, tokens: int = 0) -> None:
        if self.watch is not None:
            self.watch(Progress(self.name, share, time.monotonic() - self.began, text_bytes, stories, tokens))


class ConsoleProgress:
    """Progress on stderr: one living line where that is a terminal, a plain one every ten seconds otherwise.

    >>> with ConsoleProgress() as progress:
    ...     prepare("grammar", "bytes", "stories", progress=progress)           # doctest: +SKIP
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status = None
        self._next = time.monotonic() + PLAIN_SECONDS

    def __enter__(self) -> "ConsoleProgress":
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __call__(self, progress: Progress) -> None:
        if self._status is not None:
            self._status.update(progress.line())
        elif time.monotonic() >= self._next:
            print(progress.line(), file=sys.stderr, flush=True)
            self._next = time.monotonic() + PLAIN_SECONDS

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

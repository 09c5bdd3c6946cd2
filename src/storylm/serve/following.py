"""A request's stories from its submission to its end: what is told of them, when, and what comes between."""

import asyncio
import time
from functools import partial

from storylm.serve.batcher import Batcher, Event, Job
from storylm.serve.errors import REFUSALS, ApiError, fault
from storylm.serve.metrics import Metrics
from storylm.serve.settings import ServeSettings


class Following:
    """Follows the jobs of a request until `over`: "told", "cancelled", "late" or "failed", the last two with `error`.

    `events` has what was told, by the number of its job, where it is a stream; None is the last. Whoever starts it
    closes it.
    """

    def __init__(self, jobs: list[Job], batcher: Batcher, metrics: Metrics, settings: ServeSettings, stream: bool):
        self._jobs, self._batcher, self._metrics, self._settings = jobs, batcher, metrics, settings
        self._stream, self._left, self._began = stream, len(jobs), time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[str] = self._loop.create_future()
        self.error: ApiError | None = None
        self.events: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()

    def start(self) -> None:
        """Submit the jobs; raises what `Batcher.submit` does."""
        for index, job in enumerate(self._jobs):
            job.hear = partial(self._hear, index)
        self._batcher.submit(self._jobs)
        first, last = self._settings.wait_seconds, self._settings.tell_seconds
        self._first = self._loop.call_later(first, self._late, f"no token came within {first:g} seconds")
        self._last = self._loop.call_later(last, self._late, f"the stories were not told within {last:g} seconds")

    def close(self) -> None:
        """Nobody waits for it any more. One that is not over counts as cancelled."""
        self._end("cancelled")

    def _hear(self, index: int, event: Event) -> None:
        try:
            self._take(index, event)
        except Exception as error:  # the loop tells other requests, too, and goes on
            self._end("failed", fault(error))

    def _take(self, index: int, event: Event) -> None:
        if self.over.done():
            return
        if event.failed:
            self._end("failed", ApiError(500, "internal_error", f"{REFUSALS[500]}: {event.failed}"))
            return
        self._first.cancel()
        if event.tokens == 1:
            self._metrics.first.observe(time.perf_counter() - self._began)
        if self._stream:
            self.events.put_nowait((index, event))
        self._left -= bool(event.ended)
        if self._left == 0:
            self._metrics.whole.observe(time.perf_counter() - self._began)
            self._end("told")

    def _late(self, message: str) -> None:
        self._end("late", ApiError(503, "too_late", f"{message}: come again when there is less to do"))

    def _end(self, outcome: str, error: ApiError | None = None) -> None:
        if self.over.done():
            return
        self._first.cancel()
        self._last.cancel()
        self.error = error
        self.over.set_result(outcome)
        self.events.put_nowait(None)
        self._metrics.outcomes.labels(outcome).inc()
        self._batcher.cancel(self._jobs)

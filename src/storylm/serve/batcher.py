"""The one thread that models run in: jobs come from requests, and what is told of them goes back as it comes."""

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from storylm.generation.decoder import Decoder
from storylm.generation.draft import Draft, Likelihood
from storylm.generation.reading import build_reader
from storylm.generation.telling import Telling
from storylm.model.transformer import Transformer
from storylm.serve.scoring import Scoring
from storylm.text.tokenizer import Tokenizer

log = logging.getLogger("storylm.serve")


class Host:
    """A model that is served: its name, its tokenizer, and a decoder with so many slots."""

    def __init__(self, name: str, model: Transformer, tokenizer: Tokenizer, slots: int, precision: str = "fp32"):
        self.name, self.model, self.tokenizer = name, model.eval(), tokenizer
        self._reader = lambda: build_reader(model, slots, model.config.context, precision)
        self.reopen()

    def reopen(self) -> None:
        """Begin with an empty decoder, and none to be scored: after a failure nobody knows what is in the old one."""
        reader, vocabulary = self._reader(), self.tokenizer.vocab_size
        self.decoder = Decoder(reader, vocabulary)
        self.scoring = Scoring(self.decoder, reader, vocabulary)


@dataclass(eq=False)
class Job:
    """A story that a request waits for."""

    host: Host
    telling: Telling
    echo_likelihoods: bool = False
    prompt_likelihoods: list[Likelihood | None] = field(default_factory=list)
    events: "asyncio.Queue[Event]" = field(default_factory=asyncio.Queue)
    over: bool = False


@dataclass(frozen=True)
class Event:
    """More of a story: its new text, and how many tokens it now has; the last one has `ended` or `failed`."""

    text: str = ""
    tokens: int = 0
    ended: str | None = None
    failed: str | None = None


class FullError(Exception):
    """As many jobs are on their way as the batcher takes."""


class Batcher:
    """Takes jobs from an event loop, tells them in a thread of its own, all models in turn, and reports to the loop.

    At most `limit` jobs are on their way. A job that is cancelled leaves its slot before the next token is drawn.
    """

    def __init__(self, hosts: Iterable[Host], limit: int):
        self.hosts, self.limit = {host.name: host for host in hosts}, limit
        self.jobs = 0  # on their way; the loop's thread alone counts
        self.told_tokens = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._commands: list[tuple[Callable[[Job], None], Job]] = []
        self._changed, self._closing = threading.Condition(), False
        self._by_draft: dict[Draft, Job] = {}
        self._thread = threading.Thread(target=self._run, name="storylm-batcher", daemon=True)

    def start(self) -> None:
        """Begin to work for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Stop; what is on its way stays untold."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def running(self) -> int:
        """Stories that tokens are drawn for."""
        return sum(host.decoder.running for host in self.hosts.values())

    def submit(self, jobs: list[Job]) -> None:
        """Begin to tell these, all or none.

        Raises:
            FullError: too many are on their way.
        """
        if self.jobs + len(jobs) > self.limit:
            raise FullError
        self.jobs += len(jobs)
        self._command(self._begin, jobs)

    def cancel(self, jobs: list[Job]) -> None:
        """Nobody waits for these any more; those that are over already stay so."""
        self._command(self._abandon, [job for job in jobs if not job.over])

    def _command(self, action: Callable[[Job], None], jobs: list[Job]) -> None:
        with self._changed:
            self._commands += [(action, job) for job in jobs]
            self._changed.notify()

    # From here on: in the batcher's thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._commands or self._closing or any(map(_is_busy, self.hosts.values()))):
                    self._changed.wait()
                if self._closing:
                    return
                commands, self._commands = self._commands, []
            for action, job in commands:
                self._guarded(job.host, action, job)
            for host in self.hosts.values():
                if host.scoring.jobs:
                    self._score(host)
                if len(host.decoder):
                    self._guarded(host, self._step, host)

    def _guarded(self, host: Host, action: Callable[[Any], None], argument: Any) -> None:
        """Whatever goes wrong costs the jobs of one model, not the server."""
        try:
            action(argument)
        except Exception:
            error = secrets.token_hex(8)
            log.exception("error %s: %s failed, its jobs are given up", error, host.name)
            mine = [job for job in (*self._by_draft.values(), *host.scoring.jobs) if job.host is host]
            mine += [argument] if isinstance(argument, Job) and argument not in mine else []
            for job in mine:
                self._by_draft.pop(job.telling.draft, None)
            host.reopen()
            self._report([(job, Event(failed=error)) for job in mine])

    def _begin(self, job: Job) -> None:
        if job.echo_likelihoods:
            job.host.scoring.jobs.append(job)
        else:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        if job.telling.limit == 0:
            self._report([(job, Event(ended="length"))])
            return
        job.host.decoder.add(job.telling.draft)
        self._by_draft[job.telling.draft] = job

    def _abandon(self, job: Job) -> None:
        if job in job.host.scoring.jobs:
            job.host.scoring.leave(job)
        elif self._by_draft.pop(job.telling.draft, None) is not None:
            job.host.decoder.end([job.telling.draft])
        else:
            return
        self._report([(job, Event(ended="cancelled"))])

    def _score(self, host: Host) -> None:
        """Go on with a prompt. What goes wrong, as too little memory, is of this one alone."""
        job = host.scoring.jobs[0]
        try:
            scored = host.scoring.advance()
        except Exception:
            error = secrets.token_hex(8)
            log.exception("error %s: a prompt of %s cannot be scored", error, host.name)
            host.scoring.leave(job)
            self._report([(job, Event(failed=error))])
            return
        if scored is not None:
            self._tell(scored)

    def _step(self, host: Host) -> None:
        events: list[tuple[Job, Event]] = []
        over: list[Draft] = []
        for draft, token in host.decoder.step():
            job = self._by_draft[draft]
            text, story = job.telling.add(token), job.telling.story
            events.append((job, Event(text, story.tokens, story.ended)))
            if story.ended:
                over.append(draft)
        host.decoder.end(over)
        for draft in over:
            del self._by_draft[draft]
        self._report(events)

    def _report(self, events: list[tuple[Job, Event]]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver, events)

    # Again in the loop's.

    def _deliver(self, events: list[tuple[Job, Event]]) -> None:
        for job, event in events:
            if job.over:
                continue
            self.told_tokens += bool(event.tokens)
            if event.ended or event.failed:
                job.over = True
                self.jobs -= 1
            job.events.put_nowait(event)


def _is_busy(host: Host) -> bool:
    return bool(host.scoring.jobs) or len(host.decoder) > 0

"""The one thread that models run in: jobs come from requests, and what is told of them goes back as it comes."""

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from storylm.generation.draft import Draft, Likelihood
from storylm.generation.telling import Telling
from storylm.serve.host import Host

log = logging.getLogger("storylm.serve")


@dataclass(eq=False)
class Job:
    """A story that a request waits for. `hear` is told its events, in the loop's thread."""

    host: Host
    telling: Telling
    echo_likelihoods: bool = False
    prompt_likelihoods: list[Likelihood | None] = field(default_factory=list)
    hear: "Callable[[Event], None]" = lambda event: None
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


class BrokenError(Exception):
    """A model, or the batcher's thread, has failed for good."""


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
        self._changed, self._closing, self._dead = threading.Condition(), False, False
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
        return sum(host.running for host in self.hosts.values())

    @property
    def broken(self) -> list[str]:
        """What has failed for good: names of models, or "batcher"."""
        return ["batcher"] * self._dead + [host.name for host in self.hosts.values() if host.broken]

    def check_room(self, count: int) -> None:
        """Raises `FullError` where there is no room for so many more."""
        if self.jobs + count > self.limit:
            raise FullError

    def submit(self, jobs: list[Job]) -> None:
        """Begin to tell these, all or none.

        Raises:
            FullError: too many are on their way.
            BrokenError: their model has failed for good.
        """
        self.check_room(len(jobs))
        if any(job.host.broken for job in jobs) or not self._command(self._begin, jobs):
            raise BrokenError
        self.jobs += len(jobs)

    def cancel(self, jobs: list[Job]) -> None:
        """Nobody waits for these any more; those that are over already stay so."""
        self._command(self._abandon, [job for job in jobs if not job.over])

    def _command(self, action: Callable[[Job], None], jobs: list[Job]) -> bool:
        with self._changed:
            if not self._dead:
                self._commands += [(action, job) for job in jobs]
                self._changed.notify()
            return not self._dead

    # From here on: in the batcher's thread.

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException:  # of our own making: whatever models do wrong is their jobs' end alone
            error = secrets.token_hex(8)
            log.critical("error %s: the batcher has failed, and with it the server", error, exc_info=True)
            with self._changed:
                self._dead, commands, self._commands = True, self._commands, []
            scoring = [job for host in self.hosts.values() for job in host.to_score]
            self._fail([*self._by_draft.values(), *scoring, *(job for _, job in commands)], error)

    def _turn(self) -> bool:
        """Do what was commanded, and a step of each model; False where it is time to end."""
        hosts = self.hosts.values()
        with self._changed:
            while not (self._commands or self._by_draft or self._closing or any(host.to_score for host in hosts)):
                self._changed.wait()
            if self._closing:
                return False
            commands, self._commands = self._commands, []
        for action, job in commands:
            self._guarded(job.host, action, job)
        for host in hosts:
            if host.to_score:
                self._score(host)
            if host.decoder:
                self._guarded(host, self._step, host)
        return True

    def _guarded(self, host: Host, action: Callable[[Any], None], argument: Any) -> None:
        """Whatever goes wrong costs the jobs of one model, not the server."""
        try:
            action(argument)
        except Exception:
            error = secrets.token_hex(8)
            log.exception("error %s: %s failed, its jobs are given up", error, host.name)
            mine = [job for job in (*self._by_draft.values(), *host.to_score) if job.host is host]
            mine += [argument] if isinstance(argument, Job) and argument not in mine else []
            for job in mine:
                self._by_draft.pop(job.telling.draft, None)
            self._fail(mine, error)
            try:
                host.reopen()
            except Exception:
                log.exception("error %s: %s cannot begin anew and is broken", error, host.name)

    def _fail(self, jobs: list[Job], error: str) -> None:
        self._report([(job, Event(failed=error)) for job in jobs])

    def _begin(self, job: Job) -> None:
        if job.host.scoring is None:  # it broke after the job was taken
            error = secrets.token_hex(8)
            log.error("error %s: %s is broken", error, job.host.name)
            self._fail([job], error)
        elif job.echo_likelihoods:
            job.host.scoring.jobs.append(job)
        else:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        if job.telling.limit == 0:
            self._report([(job, Event(ended="length"))])
            return
        assert job.host.decoder is not None
        job.host.decoder.add(job.telling.draft)
        self._by_draft[job.telling.draft] = job

    def _abandon(self, job: Job) -> None:
        scoring = job.host.scoring
        if scoring is not None and job in scoring.jobs:
            scoring.leave(job)
        elif self._by_draft.pop(job.telling.draft, None) is not None:
            assert job.host.decoder is not None
            job.host.decoder.end([job.telling.draft])
        else:
            return
        self._report([(job, Event(ended="cancelled"))])

    def _score(self, host: Host) -> None:
        """Go on with a prompt. What goes wrong, as too little memory, is of this one alone."""
        assert host.scoring is not None
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
        assert host.decoder is not None
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
            job.hear(event)

"""Many stories, one judge: what is known is not asked, what fails is asked again, and what comes is kept at once."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event
from typing import Any

from storylm.config.errors import SetupError
from storylm.evaluation.judge import rubric
from storylm.evaluation.judge.endpoint import Busy, Endpoint
from storylm.evaluation.judge.kept import Kept
from storylm.evaluation.judge.pace import LONGEST_WAIT, Pace, backoff
from storylm.evaluation.judge.rubric import BadAnswer, Grades
from storylm.evaluation.text.metric import Told

ATTEMPTS = 6
Sleep = Callable[[float], object]


@dataclass(frozen=True)
class Judge:
    """A model by name, behind an endpoint, and how it is asked."""

    endpoint: Endpoint
    model: str
    temperature: float = 0.0
    schema: bool = True
    max_tokens: int = 300
    per_minute: float = 60.0
    parallel: int = 4

    @property
    def parameters(self) -> dict[str, Any]:
        """All that may change its answer besides what it reads."""
        wanted = {"name": "grades", "strict": True, "schema": rubric.SCHEMA}
        form = {"response_format": {"type": "json_schema", "json_schema": wanted}} if self.schema else {}
        return {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens, **form}

    def key(self, story: Told) -> str:
        """What its answer about a story is kept under: a hash of everything sent."""
        content = json.dumps([self.parameters, rubric.messages(story)], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


@dataclass(frozen=True)
class Graded:
    """What became of the stories: each one's grades, None where the judge gave none, and why not, counted."""

    grades: list[Grades | None]
    failures: dict[str, int]
    tokens_in: int
    tokens_out: int


def known(judge: Judge, stories: Sequence[Told], kept: Kept) -> list[Grades | None]:
    """The grades that are kept already."""
    rows = [kept.get(judge.key(story)) for story in stories]
    return [None if row is None else rubric.from_values(row["grades"]) for row in rows]


def grade(
    judge: Judge,
    stories: Sequence[Told],
    kept: Kept,
    progress: Callable[[int, int], None] = lambda done, failed: None,
    sleep: Sleep | None = None,
    seed: int = 0,
) -> Graded:
    """Have the judge grade every story that it has not graded yet, several at once.

    Interrupted, it waits for the answers that are under way, keeps them, and leaves; called again, it goes on.

    Raises:
        SetupError: the endpoint refuses, or does not answer `ATTEMPTS` times. What came before is kept.
    """
    waiting = {judge.key(story): story for story in stories if kept.get(judge.key(story)) is None}
    stop = Event()
    pace = Pace(judge.per_minute, sleep=sleep or stop.wait)
    failures: dict[str, int] = {}
    spent = [0, 0]
    with ThreadPoolExecutor(judge.parallel) as pool:
        asked = {
            pool.submit(_ask, judge, key, story, kept, pace, stop, random.Random(f"{seed} {key}")): key
            for key, story in waiting.items()
        }
        try:
            for done, future in enumerate(as_completed(asked), 1):
                try:
                    row = future.result()
                except BadAnswer as error:
                    failures[str(error)] = failures.get(str(error), 0) + 1
                else:
                    if row is not None:
                        spent = [spent[0] + (row["tokens_in"] or 0), spent[1] + (row["tokens_out"] or 0)]
                progress(done, sum(failures.values()))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return Graded(known(judge, stories, kept), failures, *spent)


def _ask(
    judge: Judge, key: str, story: Told, kept: Kept, pace: Pace, stop: Event, generator: random.Random
) -> dict[str, Any] | None:
    """The row of one story, kept; None if everyone is to stop.

    A bad answer goes back to the judge with what is wrong with it: asked the same again, it might say the same again.
    """
    said = rubric.messages(story)
    mistake: BadAnswer | None = None
    for attempt in range(ATTEMPTS):
        pace.wait()
        if stop.is_set():
            return None
        try:
            answer = judge.endpoint.ask({**judge.parameters, "messages": said})
        except Busy as busy:
            _give_up(judge, busy, attempt, stop)
            pace.hold(max(busy.wait or 0.0, backoff(attempt, generator)))
            continue
        except SetupError:
            stop.set()  # no one else need try
            raise
        except BadAnswer as error:
            mistake = error
            continue
        try:
            grades = rubric.read(answer.text)
        except BadAnswer as error:
            mistake = error
            said = [
                *rubric.messages(story),
                {"role": "assistant", "content": answer.text[:2000]},
                {"role": "user", "content": f"That is no answer: {error}. Send only the JSON object."},
            ]
            continue
        row = {
            "key": key,
            "judge": judge.model,
            "rubric": rubric.fingerprint(),
            "grades": grades.to_json(),
            "attempts": attempt + 1,
            "tokens_in": answer.tokens_in,
            "tokens_out": answer.tokens_out,
        }
        kept.add(row)
        return row
    assert mistake is not None, "the last attempt ended in nothing else"
    raise mistake


def _give_up(judge: Judge, busy: Busy, attempt: int, stop: Event) -> None:
    """Raise `SetupError` where it makes no sense to wait longer."""
    if attempt + 1 < ATTEMPTS and (busy.wait or 0) <= LONGEST_WAIT:
        return
    stop.set()
    too_long = (busy.wait or 0) > LONGEST_WAIT
    patience = f"wants to be left alone for {busy.wait:.0f} s" if too_long else f"gave no answer {ATTEMPTS} times"
    raise SetupError(f"{judge.endpoint.chat} {patience} ({busy}): run the same again later, to go on") from busy

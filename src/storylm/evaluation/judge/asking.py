"""One story and its judge, who is asked until there are grades, or until it makes no sense to ask on."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from storylm.config.errors import SetupError
from storylm.evaluation.judge import rubric
from storylm.evaluation.judge.endpoint import Answer, Busy, Endpoint, NotTakenError
from storylm.evaluation.judge.pace import LONGEST_WAIT, Pace, backoff
from storylm.evaluation.judge.rubric import BadAnswer
from storylm.evaluation.text.metric import Told

ATTEMPTS = 6
ATTEMPTS_CUT = 2
"""A judge whose answer is cut off twice needs more room, and the longest answers are the dearest."""
MAX_TOKENS = 300  # the object has 35, and a fence or a few words may be around it
LENGTH, NEWER_LENGTH = "max_tokens", "max_completion_tokens"
"""OpenAI's models that think know the second name only, most other servers the first only."""
Sleep = Callable[[float], object]


@dataclass(frozen=True)
class Judge:
    """A model by name, behind an endpoint, and how it is asked."""

    endpoint: Endpoint
    model: str
    temperature: float = 0.0
    schema: bool = True
    max_tokens: int = MAX_TOKENS
    per_minute: float = 60.0
    parallel: int = 4

    @property
    def parameters(self) -> dict[str, Any]:
        """All that may change its answer besides where it is and what it reads."""
        wanted = {"name": "grades", "strict": True, "schema": rubric.SCHEMA}
        form = {"response_format": {"type": "json_schema", "json_schema": wanted}} if self.schema else {}
        return {"model": self.model, "temperature": self.temperature, LENGTH: self.max_tokens, **form}

    @property
    def name(self) -> str:
        """Tells it from every judge that may answer otherwise.

        >>> Judge(Endpoint("http://localhost:8000/v1/"), "wise", schema=False).name
        'wise at http://localhost:8000/v1, temperature 0, 300 tokens, no schema'
        """
        settings = [
            f"temperature {self.temperature:g}",
            f"{self.max_tokens} tokens",
            "" if self.schema else "no schema",
        ]
        return ", ".join([f"{self.model} at {self.endpoint.base}", *filter(None, settings)])

    def key(self, story: Told) -> str:
        """What its answer about a story is kept under: a hash of where it is asked and of everything sent."""
        content = json.dumps([self.endpoint.base, self.parameters, rubric.messages(story)], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


class Asker:
    """Asks a judge about stories, from any number of threads, and counts the tokens of all that it answered.

    `stop`, once set, has everyone leave.
    """

    def __init__(self, judge: Judge, sleep: Sleep | None = None):
        self.stop = Event()
        self.tokens_in = self.tokens_out = 0
        self._judge, self._pace = judge, Pace(judge.per_minute, sleep=sleep or self.stop.wait)
        self._length, self._lock = LENGTH, Lock()

    def ask(self, story: Told, generator: random.Random) -> dict[str, Any] | None:
        """The row to keep of a story; None if everyone is to stop.

        A bad answer goes back to the judge with what is wrong with it: asked the same again, it might say the same
        again.

        Raises:
            BadAnswer: the judge gave no grades.
            SetupError: the endpoint refuses, or does not answer `ATTEMPTS` times.
        """
        said = rubric.messages(story)
        answers: list[Answer] = []
        mistake: BadAnswer | None = None
        for attempt in range(ATTEMPTS):
            try:
                answer = self._send(said)
            except Busy as busy:
                self._give_up(busy, attempt)
                self._pace.hold(max(busy.wait or 0.0, backoff(attempt, generator)))
                continue
            except SetupError:
                self.stop.set()  # no one else need try
                raise
            except BadAnswer as error:  # the server's, not the judge's
                mistake = error
                continue
            if answer is None:
                return None
            answers.append(answer)
            try:
                return self._row(story, self._grades(answer), answers, attempt)
            except BadAnswer as error:
                mistake = error
            if sum(one.cut for one in answers) == ATTEMPTS_CUT:
                break
            said = [
                *rubric.messages(story),
                {"role": "assistant", "content": answer.text[:2000] or "..."},
                {"role": "user", "content": f"That is no answer: {mistake}. Send only the JSON object."},
            ]
        assert mistake is not None, "the last attempt ended in nothing else"
        raise mistake

    def _send(self, said: list[dict[str, str]]) -> Answer | None:
        """The judge's answer, when it is our turn; None if everyone is to stop."""
        self._pace.wait()
        if self.stop.is_set():
            return None
        parameters, name = self._judge.parameters, self._length
        longest = parameters.pop(LENGTH)
        try:
            answer = self._judge.endpoint.ask({**parameters, name: longest, "messages": said})
        except NotTakenError as error:
            if name == NEWER_LENGTH or NEWER_LENGTH not in error.said:
                raise
            self._length = NEWER_LENGTH
            return self._send(said)
        with self._lock:
            self.tokens_in += answer.tokens_in or 0
            self.tokens_out += answer.tokens_out or 0
        return answer

    def _grades(self, answer: Answer) -> rubric.Grades:
        if answer.cut:
            raise BadAnswer(f"it was cut off after {self._judge.max_tokens} tokens (--judge-max-tokens)")
        return rubric.read(answer.text)

    def _row(self, story: Told, grades: rubric.Grades, answers: list[Answer], attempt: int) -> dict[str, Any]:
        return {
            "key": self._judge.key(story),
            "judge": self._judge.name,
            "rubric": rubric.fingerprint(),
            "grades": grades.to_json(),
            "attempts": attempt + 1,
            "tokens_in": _total(one.tokens_in for one in answers),
            "tokens_out": _total(one.tokens_out for one in answers),
        }

    def _give_up(self, busy: Busy, attempt: int) -> None:
        """Raise `SetupError` where it makes no sense to wait longer."""
        if attempt + 1 < ATTEMPTS and (busy.wait or 0) <= LONGEST_WAIT:
            return
        self.stop.set()
        too_long = (busy.wait or 0) > LONGEST_WAIT
        patience = f"wants to be left alone for {busy.wait:.0f} s" if too_long else f"gave no answer {ATTEMPTS} times"
        where = self._judge.endpoint.chat
        raise SetupError(f"{where} {patience} ({busy}): run the same again later, to go on") from busy


def _total(counts: Iterable[int | None]) -> int | None:
    """Of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None

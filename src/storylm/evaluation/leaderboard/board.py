"""A leaderboard is held: every model is loaded, asked what is not known of it yet, and given its place."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from storylm.config.errors import SetupError, UsageError, UserError
from storylm.config.names import short_names
from storylm.evaluation.leaderboard import kept
from storylm.evaluation.leaderboard.examine import Findings, Questions, examine
from storylm.evaluation.leaderboard.ranking import Entry, Place, ranked
from storylm.evaluation.told import Count
from storylm.model.fingerprint import fingerprint
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

Load = Callable[[str], tuple[Transformer, Tokenizer]]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Board:
    """Models in their places, the best first, and why others have none: by name, the error. `twins` are the same model
    as another one: by name, that one's."""

    questions: Questions
    places: Sequence[Place]
    left_out: dict[str, UserError]
    twins: dict[str, str]


@dataclass(frozen=True)
class _Candidate:
    """A model that could be loaded: what it is kept under, and what is known of it."""

    name: str
    key: str
    weights: str
    tokenizer: str
    size: int
    known: Findings | None


def hold(
    names: Sequence[str],
    load: Load,
    questions: Questions,
    machine: str,
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
    count: Count = lambda what, done, total: None,
) -> Board:
    """Ask each model, and rank those that answered; one that cannot be loaded or asked is left out, and said to be.

    All are loaded once before the first is asked, so that mistakes show at once. `machine` says where
    and by which storylm; `again` asks what is known too; `count` is told of each step.

    Raises:
        UsageError: no model, or one twice.
    """
    if not names or len(set(names)) < len(names):
        raise UsageError("name one or more models, each once")
    left_out: dict[str, UserError] = {}

    def attempt(name: str, work: Callable[[], _Result]) -> _Result | None:
        """What the work gives; None where the model is left out for it."""
        try:
            return work()
        except UserError as error:
            left_out[name] = error
        except OSError as error:
            left_out[name] = SetupError(f"{error.filename or name}: {error.strerror or error}")
        except (torch.OutOfMemoryError, MemoryError):
            torch.cuda.empty_cache()  # for the next one; where there is no CUDA this does nothing
            left_out[name] = SetupError("there is not enough memory for it: free some, or pass --device cpu")
        say(f"{name} is left out: {left_out[name]}")
        return None

    candidates: list[_Candidate] = []
    twins: dict[str, str] = {}
    for number, name in enumerate(names):
        count("reading models", number, len(names))
        found = attempt(name, lambda name=name: _candidate(name, load, questions, machine, again))
        twin = next((one.name for one in candidates if found and one.key == found.key), None)
        if twin is not None:
            twins[name] = twin
            say(f"{name} is the same model as {twin}, which stands for both")
        elif found is not None:
            candidates.append(found)
    shorts = dict(zip(known := [one.name for one in candidates], short_names(known), strict=True))
    waiting, answers = [one for one in candidates if one.known is None], {}
    began, asked = time.monotonic(), 0
    for number, one in enumerate(waiting, 1):
        where = (
            f"{number} of {len(waiting)}{_left(began, asked, sum(each.size for each in waiting))}, {shorts[one.name]}"
        )
        answers[one.name] = attempt(one.name, lambda one=one, where=where: _ask(one, load, questions, where, count))
        asked += one.size
        if found := answers[one.name]:
            say(f"{one.name}: {found.bits_per_byte.value:.4f} bits per byte")
    entries = [
        Entry(one.name, shorts[one.name], one.weights, one.tokenizer, findings)
        for one in candidates
        if (findings := one.known or answers.get(one.name)) is not None
    ]
    return Board(questions, ranked(entries, questions.manner.seed) if entries else [], left_out, twins)


def _candidate(name: str, load: Load, questions: Questions, machine: str, again: bool) -> _Candidate:
    model, tokenizer = load(name)
    weights = fingerprint(model)
    key = kept.key(weights, tokenizer.fingerprint, questions, machine)
    size = sum(weight.numel() for weight in model.parameters())
    return _Candidate(name, key, weights, tokenizer.fingerprint, size, None if again else kept.known(key))


def _ask(one: _Candidate, load: Load, questions: Questions, where: str, count: Count) -> Findings:
    findings = examine(*load(one.name), questions, lambda what, done, total: count(f"{where}: {what}", done, total))
    kept.keep(one.key, findings)
    return findings


def _left(began: float, asked: int, size: int) -> str:
    """How long the rest will take, where something is known about that: as long for each parameter."""
    if not asked:
        return ""
    seconds = (time.monotonic() - began) * (size - asked) / asked
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"

"""What a learned judge learns from: real stories, and the same stories damaged (`evaluation.damage`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from storylm.evaluation.damage import DAMAGES, damaged


@dataclass(frozen=True)
class Example:
    """A story, sound or damaged. `severity` is 0 for a sound one and up to 1 for the most of its kind of damage."""

    text: str
    source: int
    """Which story it was."""
    kind: str | None
    severity: float


def examples(stories: Sequence[str], kinds: Sequence[str] = tuple(DAMAGES), seed: int = 0) -> list[Example]:
    """Each story as it is, and with every amount of every kind of damage that changes it.

    >>> [(one.kind, one.severity) for one in examples(["He is."], ["broken agreement"])][-1]
    ('broken agreement', 1.0)
    """
    found = [Example(story, number, None, 0.0) for number, story in enumerate(stories)]
    for kind in kinds:
        damage = DAMAGES[kind]
        # Of stories that are damaged or not there is one way to be so.
        amounts = (1.0,) if damage.of_stories else damage.amounts
        for step, amount in enumerate(amounts, 1):
            texts = damaged(stories, kind, amount, seed)
            found += [
                Example(text, number, kind, step / len(amounts))
                for number, (text, story) in enumerate(zip(texts, stories, strict=True))
                if text != story
            ]
    return found

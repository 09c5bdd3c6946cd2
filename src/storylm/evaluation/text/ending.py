"""Well-formed to the end: stories that end, and do so where a sentence does, and quotation marks that close."""

import re

from storylm.evaluation.text.metric import StoryMetric, Told

_ENDED = re.compile(r"[.!?…][\"”'’)]*\s*$")


def ended(story: Told) -> tuple[float, float]:
    """Whether the story ends with a sentence's end.

    >>> ended(Told("", 'She said, "Bye."')), ended(Told("", "She went to the"))
    ((True, 1), (False, 1))
    """
    return _ENDED.search(story.told) is not None, 1


def balanced_quotes(story: Told) -> tuple[float, float]:
    """Paragraphs whose double quotation marks all close, of those that have any.

    >>> balanced_quotes(Told("", '"Hi," said Tom.\\n"Hello, he said.'))
    (1, 2)
    """
    quoted = [part for part in story.told.split("\n") if re.search(r"[\"“”]", part)]
    return sum(_balanced(part) for part in quoted), len(quoted)


def _balanced(text: str) -> bool:
    curly = [1 if mark == "“" else -1 for mark in re.findall("[“”]", text)]
    steps = [sum(curly[: end + 1]) for end in range(len(curly))]
    return text.count('"') % 2 == 0 and (not steps or (min(steps) >= 0 and steps[-1] == 0))


def reached_limit(story: Told) -> tuple[float, float]:
    """Whether the story was stopped because it was as long as it may be, of those of which that is known."""
    return bool(story.cut), story.cut is not None


REACHED_LIMIT = StoryMetric("reached_limit", "reference", reached_limit)
METRICS = (
    StoryMetric("ended_properly", "higher", ended),
    StoryMetric("balanced_quotes", "higher", balanced_quotes),
)

"""Grammar: what Harper, an offline checker, finds wrong in a hundred words. Needs the extra `eval`.

Harper is careful rather than thorough: it misses most wrong orders of words, and finds a little in good stories
too, so the figure of validation stories stands beside it. Spelling (names!), style and typography do not count.
"""

from functools import cache
from typing import Any

from storylm.config.errors import SetupError
from storylm.evaluation.text.metric import StoryMetric, Told
from storylm.text.words import words

# Of the kinds that Harper (https://github.com/Automattic/harper) tells apart.
NO_GRAMMAR = {
    "Capitalization",
    "Enhancement",
    "Formatting",
    "Readability",
    "Redundancy",
    "Regionalism",
    "Spelling",
    "Style",
    "WordChoice",
}


def lints(story: Told) -> tuple[float, float]:
    """Errors found in what was told, and its hundreds of words.

    Raises:
        SetupError: the extra `eval` is not installed.
    """
    found = _linter().lint(story.told, language="plaintext")
    return sum(lint.lint_kind not in NO_GRAMMAR for lint in found), len(words(story.told)) / 100


@cache
def _linter() -> Any:
    try:
        import harper
    except ImportError as error:
        raise SetupError("grammar needs harper-py: pip install 'storylm[eval]'") from error
    return harper.Linter()


METRICS = (StoryMetric("grammar_lints", "lower", lints),)

"""The thousand words that most stories for small children have: what is everyday there, and what is rare."""

from functools import cache
from importlib.resources import files


@cache
def common_words() -> frozenset[str]:
    """In small letters. Counted in TinyStories' training stories, once a story: `benchmarks/common_words.py`.

    >>> "happy" in common_words(), "zebra" in common_words()
    (True, False)
    """
    return frozenset((files("storylm.text") / "common_words.txt").read_text(encoding="utf-8").split())

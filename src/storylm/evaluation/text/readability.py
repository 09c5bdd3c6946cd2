"""How hard a text is to read: the Flesch-Kincaid grade, and words that are not everyday ones.

Stories of this kind are for children of three or four, so easier is not better: real stories are the mark.
"""

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from storylm.evaluation.text.metric import StoryMetric, Told
from storylm.text.words import sentences, words

COMMON = 1000


def syllables(word: str) -> int:
    """Groups of vowels, less a silent ending, at least one: right for nine of ten everyday words.

    >>> [syllables(word) for word in ("cat", "little", "cake", "jumped", "wanted", "banana")]
    [1, 2, 1, 1, 2, 3]
    """
    groups = len(re.findall(r"[aeiouy]+", word))
    silent = re.search(r"(?<=[^aeiouy])e$|(?<=[^aeioutdy])ed$|(?<=[^aeiouyscxzgh])es$", word)
    kept = re.search(r"[^aeiouy]le$", word)
    return max(1, groups - bool(silent and not kept))


def _reading(story: Told) -> tuple[float, float, float]:
    found = words(story.told)
    return len(found), len(sentences(story.told)), sum(map(syllables, found))


def flesch_kincaid(sums: np.ndarray) -> np.ndarray:
    """The American school grade (Kincaid et al. 1975) from words, sentences and syllables, [..., 3]."""
    of_words, of_sentences, of_syllables = (sums[..., column] for column in range(3))
    return 0.39 * of_words / of_sentences + 11.8 * of_syllables / of_words - 15.59


def common_words(stories: Iterable[str]) -> frozenset[str]:
    """The thousand commonest words of real stories."""
    return frozenset(word for word, _ in Counter(word for text in stories for word in words(text)).most_common(COMMON))


def uncommon(common: frozenset[str]) -> StoryMetric:
    """The share of words beyond the thousand commonest, as Dale and Chall (1948) do with a list of familiar words."""

    def sums(story: Told) -> tuple[float, float]:
        found = words(story.told)
        return sum(word not in common for word in found), len(found)

    return StoryMetric("uncommon_words", "reference", sums)


METRICS = (StoryMetric("flesch_kincaid_grade", "reference", _reading, flesch_kincaid),)

"""How hard a text is to read: the Flesch-Kincaid grade, and words that are not everyday ones.

Stories of this kind are for children of three or four, so easier is not better: real stories are the mark.
"""

import re

import numpy as np

from storylm.evaluation.text.metric import StoryMetric, Told
from storylm.text.common_words import common_words
from storylm.text.words import sentences, words


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


def uncommon(story: Told) -> tuple[float, float]:
    """Words beyond the thousand commonest, and all, as Dale and Chall (1948) do with a list of familiar words.

    >>> uncommon(Told("", "A happy zebra!"))
    (1, 3)
    """
    found = words(story.told)
    return sum(word not in common_words() for word in found), len(found)


METRICS = (
    StoryMetric("flesch_kincaid_grade", "reference", _reading, flesch_kincaid),
    StoryMetric("uncommon_words", "reference", uncommon),
)

"""Saying the same again within one story: word 4-grams and whole sentences that came before."""

from storylm.evaluation.text.metric import StoryMetric, Told
from storylm.text.words import sentences, words

GRAM = 4


def repeated_grams(story: Told) -> tuple[float, float]:
    """4-grams that came before in the story, and all (seq-rep-4; Welleck et al. 2020).

    >>> repeated_grams(Told("", "the cat sat down the cat sat down"))
    (1, 5)
    """
    found = words(story.told)
    grams = list(zip(*(found[start:] for start in range(GRAM)), strict=False))
    return len(grams) - len(set(grams)), len(grams)


def repeated_sentences(story: Told) -> tuple[float, float]:
    """Sentences that came before in the story, and all; those of one or two words do not count."""
    found = [tuple(words(sentence)) for sentence in sentences(story.told)]
    found = [sentence for sentence in found if len(sentence) > 2]
    return len(found) - len(set(found)), len(found)


METRICS = (
    StoryMetric("repeated_4_grams", "lower", repeated_grams),
    StoryMetric("repeated_sentences", "lower", repeated_sentences),
)

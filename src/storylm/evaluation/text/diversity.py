"""How varied stories are among each other: distinct n-grams, self-BLEU, compression.

All three depend on how much text there is, so each has its fixed amount: the first 5,000 words, the first 50 stories.
Too little variety is a fault, and so is too much (words at random are the most varied), so real stories are the mark.
"""

import zlib
from collections.abc import Iterator, Sequence

from storylm.evaluation.text.metric import CorpusMetric, Told
from storylm.text.words import words

WORDS = 5000
STORIES = 50


def distinct(stories: Sequence[Told], n: int) -> float | None:
    """Different n-grams by all n-grams (distinct-n; Li et al. 2016), of the first 5,000 words.

    N-grams lie within one story.

    >>> distinct([Told("", "the cat sat " * 2000)], 1) == 3 / 5000
    True
    """
    total, seen = 0, set()
    for some in _first_words(stories):
        grams = list(zip(*(some[start:] for start in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total and _enough(stories) else None


def compression_ratio(stories: Sequence[Told]) -> float | None:
    """How many times smaller zlib makes the first 5,000 words (Shaib et al. 2024): higher, more of the same."""
    if not _enough(stories):
        return None
    data = "\n".join(" ".join(some) for some in _first_words(stories)).encode()
    return len(data) / len(zlib.compress(data, 9))


def self_bleu(stories: Sequence[Told]) -> float | None:
    """The mean BLEU, 0 to 100, of each of the first 50 stories against the other 49 (Zhu et al. 2018)."""
    from storylm.evaluation.text.overlap import sentence_bleu

    texts = [story.told for story in stories if story.told.strip()][:STORIES]
    if len(texts) < STORIES:
        return None
    return sum(sentence_bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)) / len(texts)


def _first_words(stories: Sequence[Told]) -> Iterator[list[str]]:
    left = WORDS
    for story in stories:
        if not left:
            return
        some = words(story.told)[:left]
        left -= len(some)
        yield some


def _enough(stories: Sequence[Told]) -> bool:
    return sum(map(len, _first_words(stories))) == WORDS


METRICS = (
    CorpusMetric("distinct_1", "reference", lambda stories: distinct(stories, 1)),
    CorpusMetric("distinct_2", "reference", lambda stories: distinct(stories, 2)),
    CorpusMetric("distinct_3", "reference", lambda stories: distinct(stories, 3)),
    CorpusMetric("self_bleu", "reference", self_bleu),
    CorpusMetric("compression_ratio", "reference", compression_ratio),
)

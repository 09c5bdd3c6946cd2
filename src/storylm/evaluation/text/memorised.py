"""What of the told stories stands word for word in training stories, and how near the nearest of those is.

Real stories share much with each other ("once upon a time there was a little girl named"), so only the distance to
the same figure of validation stories says anything: above it, a model recites. Case and punctuation do not count.

- share of word 13-grams that are in train (13 as in Brown et al. 2020's test for contamination);
- the longest run of words that is in train (verbatim memorisation; Carlini et al. 2023);
- ROUGE-L to the nearest training story, which MinHash finds (Broder 1997; Eldan and Li 2023 look for copies by ROUGE).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from storylm.config.schema import CleaningConfig
from storylm.data.duplicates import fingerprint
from storylm.evaluation.measure import Measure
from storylm.evaluation.text.automaton import Automaton
from storylm.evaluation.text.metric import summed
from storylm.evaluation.text.overlap import rouge
from storylm.text.words import words

GRAM = 13


class Echoes:
    """Texts to look for in training stories, which pass by once, in memory that does not grow with them.

    >>> echoes = Echoes(["The red ball fell down."])
    >>> echoes.read(["A red ball fell!", "It rained."])
    >>> echoes.longest, echoes.nearest
    ([3], ['A red ball fell!'])
    """

    def __init__(self, texts: Sequence[str]):
        self.texts = list(texts)
        self._words = [words(text) for text in texts]
        self._automaton = Automaton(self._words)
        self._marks_SP = np.array([_mark(text) for text in texts])
        self._alike_S = np.full(len(texts), -1)
        self.nearest = [""] * len(texts)
        """The training story most like each text."""

    def read(self, stories: Iterable[str], progress: Callable[[int], None] | None = None) -> None:
        """Training stories; `progress` is told how many have passed."""
        for number, story in enumerate(stories):
            self._automaton.read(words(story))
            alike_S = (self._marks_SP == _mark(story)).sum(axis=1)
            for text in np.flatnonzero(alike_S > self._alike_S):
                self.nearest[text] = story
            self._alike_S = np.maximum(self._alike_S, alike_S)
            if progress is not None and number % 1000 == 999:
                progress(number + 1)

    @property
    def longest(self) -> list[int]:
        """Words of the longest run of each text that is in a training story."""
        return [max(self._automaton.matched(text), default=0) for text in range(len(self.texts))]

    @property
    def grams(self) -> list[tuple[int, int]]:
        """Of each text's 13-grams, how many are in training stories, and how many there are."""
        runs = (self._automaton.matched(text) for text in range(len(self.texts)))
        return [(sum(run >= GRAM for run in of_text), max(0, len(of_text) - GRAM + 1)) for of_text in runs]

    @property
    def similarity(self) -> list[float]:
        """ROUGE-L of each text to the nearest training story."""
        return rouge(self.texts, self.nearest)[:, 2].tolist()


def memorised(echoes: Echoes, told: int, seed: int = 0) -> list[Measure]:
    """The figures of the first `told` texts, with those of the others, real stories, as the reference."""
    each = {
        "train_13_grams": echoes.grams,
        "longest_train_span": [(length, 1) for length in echoes.longest],
        "nearest_train_rouge_l": [(score, 1) for score in echoes.similarity],
    }
    return [
        summed(name, "reference", sums[:told], sums[told:] if len(sums) > told else None, seed=seed)
        for name, rows in each.items()
        for sums in [np.array(rows, np.float64)]
    ]


def _mark(text: str) -> np.ndarray:
    return np.frombuffer(fingerprint(text, CleaningConfig()), np.uint8)[8:]  # without the exact hash

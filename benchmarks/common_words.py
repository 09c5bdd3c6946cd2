"""Write `src/storylm/text/common_words.txt`: the thousand words that most training stories have, the commonest first.

    python benchmarks/common_words.py

Stories are those of the training file in `STORYLM_SHARED` (default: ../shared).
"""

import lzma
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable

from peers.data import REAL, ROOT

from storylm.config.files import write_text
from storylm.text.words import words

OUTPUT = ROOT / "src" / "storylm" / "text" / "common_words.txt"
COUNT = 1000


def commonest(stories: Iterable[str], count: int = COUNT) -> list[str]:
    """The words that stand in most of the stories; of two in as many, the first in the alphabet.

    >>> commonest(["a cat a cat", "a dog"], 2)
    ['a', 'cat']
    """
    found = Counter(word for story in stories for word in set(words(story)))
    return sorted(found, key=lambda word: (-found[word], word))[:count]


def main() -> int:
    """Count and write."""
    with lzma.open(REAL, "rt", encoding="utf-8") as file:
        stories = file.read().split("<|endoftext|>")
    write_text(OUTPUT, textwrap.fill(" ".join(commonest(stories)), 120, break_long_words=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

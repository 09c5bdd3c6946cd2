"""Small corpora of many files for tests of preparing, and what became of them."""

import random
from pathlib import Path

from storylm.config.files import sha256

_WORDS = ("cat", "dog", "sun", "hat", "red", "big", "ran", "sat", "saw", "tree", "boat", "happy", "house", "under")


def tell(number: int) -> str:
    """A story unlike the others."""
    words = random.Random(number)
    return f"Once there was number {number}. {' '.join(words.choices(_WORDS, k=40))}."


def corpus_of(folder: Path, files: int, stories: int) -> Path:
    """`files` files of train and one of validation; a few stories stand in two files, and some in validation, too."""
    folder.mkdir()
    for file in range(files):
        numbers = range(file * stories - min(file, 2), (file + 1) * stories)
        (folder / f"train-{file:02}.txt").write_text("\n<|endoftext|>\n".join(map(tell, numbers)))
    numbers = [7, stories, *range(10**6, 10**6 + 2 * stories)]
    (folder / "valid.txt").write_text("\n<|endoftext|>\n".join(map(tell, numbers)))
    return folder


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file but the lock."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}

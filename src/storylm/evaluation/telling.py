"""Stories to judge: told by a model from beginnings of real ones, or read from a file.

A real story is parted at the end of the first sentence that reaches 40 % of its words (Eldan and Li 2023 keep about
as much): the model goes on from there, and the true ending is at hand.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from storylm.config.errors import DataError, UsageError
from storylm.config.files import expanded
from storylm.data.sources import open_source
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.text.judge import Real
from storylm.evaluation.text.metric import Told
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, read_prompt, tell_together
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.text.words import sentence_spans, words

SHARE = 0.4
FILES = (".txt", ".jsonl")
_CUT = ("length", "context")  # of `Story.ended`


@dataclass(frozen=True)
class Manner:
    """How a model tells stories that are judged: as it predicts, at this temperature. Figures of stories told in
    different manners do not compare.

    Raises:
        UsageError: a setting outside its range.
    """

    temperature: float = 0.8
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        Sampling(temperature=self.temperature)  # raises
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens={self.max_new_tokens} is not allowed: it is 1 or more")


def part(story: str) -> Told | None:
    """A story's beginning and its true ending, which begins with a space or line end; None if it is too short for two.

    >>> part("Tom had a cat. The cat was fat. It sat. It ate all day.")
    Told(beginning='Tom had a cat. The cat was fat.', told=' It sat. It ate all day.')
    """
    spans, total = sentence_spans(story), len(words(story))
    for _, end in spans[:-1]:
        if len(words(story[:end])) >= SHARE * total:
            return Told(story[:end], story[end:])
    return None


def real_stories(corpus: Corpus, count: int) -> Real:
    """The first `count` stories that can be parted, and as many further ones.

    Raises:
        DataError: the corpus has none.
    """
    parted = list(islice((pieces for story in corpus if (pieces := part(story))), 2 * count))
    if not parted:
        raise DataError(f"{corpus.name} has no story of several sentences to begin from")
    return Real(parted[:count], parted[count:])


def tell_endings(
    model: Transformer,
    tokenizer: Tokenizer,
    beginnings: Sequence[str],
    manner: Manner,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda told: None,
) -> list[Told]:
    """Each beginning, and what the model makes of it; a long one loses its front, as far as the context asks for it."""
    length, sampling = manner.max_new_tokens, Sampling(temperature=manner.temperature)
    # Each has a seed of its own, so that what two stories have in common is the model's doing.
    stories = [
        Story(beginning, manner.seed + number, read_prompt(model, tokenizer, beginning, length, "left"))
        for number, beginning in enumerate(beginnings)
    ]
    for _ in tell_together(model, tokenizer, stories, sampling, length, stop=(), batch_size=batch_size):
        progress(sum(story.ended is not None for story in stories))
    progress(len(stories))
    return [Told(story.prompt, story.told, story.ended in _CUT) for story in stories]


def read_told(path: Path) -> list[Told]:
    """Stories of a file, as `storylm generate --output` writes them; .jsonl may say what
    each began with ("prompt"), and why it is over ("ended").

    Raises:
        DataError: no such file, or no stories in it.
        UsageError: it is of another kind.
    """
    if path.suffix.lower() not in FILES:
        raise UsageError(
            f"{path} is of no known kind: stories to judge are in a file that ends in {' or '.join(FILES)}"
        )
    stories = _lines(path) if path.suffix.lower() == ".jsonl" else _texts(path)
    if not stories:
        raise DataError(f"{path} has no stories")
    return stories


def _texts(path: Path) -> list[Told]:
    records = open_source(str(path)).stories("train")
    return [Told("", record.text) for record in records if record.text and record.text.strip()]


def _lines(path: Path) -> list[Told]:
    stories = []
    try:
        lines = expanded(path).read_text(encoding="utf-8-sig").split("\n")  # U+2028 ends no line of JSON
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the stories of {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text, prompt = row["text"], row.get("prompt") or ""
            prompt = prompt if text.startswith(prompt) else ""
            cut = None if row.get("ended") is None else row["ended"] in _CUT
            stories.append(Told(prompt, text[len(prompt) :], cut))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f'{path}, line {number}: not like {{"text": "...", "prompt": "..."}}') from error
    return stories

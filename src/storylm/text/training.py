"""An own vocabulary: byte-level BPE trained on stories, split as GPT-2 does, so that other tools know its kind."""

from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import models, trainers

from storylm.config.errors import DataError, UsageError
from storylm.text.bytelevel import ALPHABET, ENDOFTEXT, as_byte_level
from storylm.text.tokenizer import Tokenizer

SMALLEST = 1 + len(ALPHABET)
"""The end token and the 256 bytes."""


def train_bpe(stories: Iterable[str], vocab_size: int, progress: bool = False) -> Tokenizer:
    """A tokenizer of `vocab_size` tokens: `<|endoftext|>` is id 0, the bytes are 1 to 256, then merges by frequency.

    The same stories give the same tokenizer, in whatever order. It is smaller than asked for where the text has
    no more pairs that occur twice. `stories` is read once, in bounded memory; `progress` draws a bar on stderr.

    >>> train_bpe(["the cat and the hat"] * 9, vocab_size=300).vocab_size
    268

    Raises:
        UsageError: vocab_size is less than 257.
        DataError: there is not a single story.
    """
    if vocab_size < SMALLEST:
        raise UsageError(
            f"vocab_size={vocab_size} is too small: a byte-level vocabulary has at least {SMALLEST} tokens"
            " (tokenizer 'bytes' has just those)"
        )
    tokenizer = as_byte_level(tokenizers.Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,  # a pair seen once is no pattern
        special_tokens=[ENDOFTEXT],
        initial_alphabet=ALPHABET,
        show_progress=progress,
    )
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for story in stories:
            count += bool(story)
            yield story

    tokenizer.train_from_iterator(counted(), trainer)
    if not count:
        raise DataError("no stories to train a tokenizer on: the source is empty")
    return Tokenizer(tokenizer, ENDOFTEXT, ENDOFTEXT, name=f"bpe-{tokenizer.get_vocab_size()}")

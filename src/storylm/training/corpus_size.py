"""How many tokens and stories there are to train on, before they are prepared."""

import math
from dataclasses import dataclass

import numpy as np

from storylm.config.files import expanded
from storylm.config.schema import RunConfig
from storylm.data.prepared import read_manifest


@dataclass(frozen=True)
class Corpus:
    """A named corpus, cleaned: stories and bytes of its training split, stories of its validation split."""

    stories: int
    bytes: int
    validation: int


# As cleaning leaves them. V1: of 2,119,719 stories about 1,798,254 stay; the same share is taken of its bytes, and of
# its 21,990 validation stories. V2 as published.
CORPORA = {
    "tinystories": Corpus(1_798_254, round(1.92e9 * 1_798_254 / 2_119_719), round(21_990 * 1_798_254 / 2_119_719)),
    "tinystories-v2": Corpus(2_717_699, 2_230_000_000, 27_630),
}
# Of our own BPE by its size, trained on 3 MB of TinyStories, measured on other stories of it.
BPE_BYTES_PER_TOKEN = ((257, 1.0), (512, 2.40), (1024, 3.13), (2048, 3.61), (4096, 3.88), (10_000, 4.08))
_STORY = CORPORA["tinystories"].bytes / CORPORA["tinystories"].stories  # bytes; stories of unknown corpora are like it


def epoch_tokens(config: RunConfig) -> int | None:
    """Tokens in a pass over the training stories, special ones included; None where that is not known yet."""
    manifest = read_manifest(expanded(config.data.source))
    if manifest is not None:
        return manifest["splits"]["train"]["tokens"]
    corpus = CORPORA.get(config.data.source)
    if corpus is None:
        return None
    share = min(1.0, (config.data.max_stories or corpus.stories) / corpus.stories)
    return round(share * (corpus.bytes / bytes_per_token(config) + corpus.stories))


def validation_stories(config: RunConfig) -> int | None:
    """Stories in the validation split; None where that is not known yet."""
    manifest = read_manifest(expanded(config.data.source))
    if manifest is not None:
        return manifest["splits"]["validation"]["stories"]
    corpus = CORPORA.get(config.data.validation or config.data.source)
    return None if corpus is None else corpus.validation


def story_tokens(config: RunConfig) -> float:
    """Tokens of a mean story, its end token included."""
    manifest = read_manifest(expanded(config.data.source))
    if manifest is not None:
        train = manifest["splits"]["train"]
        return train["tokens"] / max(1, train["stories"])
    return _STORY / bytes_per_token(config) + 1


def tokens_per_row(config: RunConfig) -> float:
    """Tokens that a row teaches: all of it where packed, those of a story where padded."""
    return config.row_length if config.data.layout == "packed" else min(config.row_length, story_tokens(config))


def bytes_per_token(config: RunConfig) -> float:
    """How much English of TinyStories one token is worth, as measured for tokenizers of each kind and size."""
    fixed = {"bytes": 1.0, "mistral": 3.75, "gpt2": 4.05}
    if config.tokenizer in fixed:
        return fixed[config.tokenizer]
    sizes, worth = zip(*BPE_BYTES_PER_TOKEN, strict=True)
    return float(np.interp(math.log(config.model.vocab_size), np.log(sizes), worth))

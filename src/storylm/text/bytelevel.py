"""Byte-level BPE as GPT-2 has it: every byte is a printable character of the vocabulary, so that no text is unknown."""

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

ENDOFTEXT = "<|endoftext|>"
"""What parts stories in every byte-level vocabulary of this package, as in GPT-2's."""


def _alphabet() -> list[str]:
    # GPT-2's table (bytes_to_unicode of its encoder.py): a byte that prints in Latin-1 stands for itself, the others
    # take the characters from U+0100 on, in order.
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


ALPHABET = _alphabet()
"""The character that stands for each byte: `ALPHABET[0x20] == "Ġ"`."""


def byte_level_bpe(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], split: bool = True
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer; `split`: words, numbers, signs and spaces apart before merging, by GPT-2's regex.

    >>> byte_level_bpe({"a": 0, "b": 1, "ab": 2}, [("a", "b")]).encode("abba").ids
    [2, 1, 0]
    """
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges)))
    return as_byte_level(tokenizer, split)


def as_byte_level(tokenizer: tokenizers.Tokenizer, split: bool = True) -> tokenizers.Tokenizer:
    """Give a BPE model GPT-2's surroundings, exactly, so that other tools know it as GPT-2's kind."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if ENDOFTEXT in tokenizer.get_vocab():
        tokenizer.add_special_tokens([AddedToken(ENDOFTEXT, special=True, normalized=False)])
    return tokenizer


def bytes_tokenizer() -> tokenizers.Tokenizer:
    """The 256 bytes, each its own id, and `<|endoftext|>` = id 256."""
    vocabulary = {character: byte for byte, character in enumerate(ALPHABET)}
    return byte_level_bpe({**vocabulary, ENDOFTEXT: 256}, [], split=False)


def is_byte_level(spec: Mapping[str, Any]) -> bool:
    """Whether a tokenizer, given as its parsed tokenizer.json, keeps every byte of every text."""
    before: Any = spec["pre_tokenizer"] or {"type": "none"}
    steps = before["pretokenizers"] if before["type"] == "Sequence" else [before]
    byte_steps = [step for step in steps if step["type"] == "ByteLevel"]
    splits_only = all(
        step["type"] in ("ByteLevel", "Digits") or (step["type"] == "Split" and step["behavior"] != "Removed")
        for step in steps
    )
    return (
        spec["model"]["type"] == "BPE"
        and spec["normalizer"] is None
        and splits_only
        and len(byte_steps) == 1
        and not byte_steps[0]["add_prefix_space"]
        and (spec["decoder"] or {}).get("type") == "ByteLevel"
        and not any(token["lstrip"] or token["rstrip"] for token in spec["added_tokens"] if not token["special"])
        and all(character in spec["model"]["vocab"] for character in ALPHABET)
    )

"""From texts to ids, fast: the fastest encoder at hand that gives the very ids of Hugging Face's `tokenizers`.

    bytes        NumPy, where every byte is its own id
    gigatoken    the extra `storylm[fast]`; remembers words; tens of times the speed (benchmarks/encoding.py)
    tokenizers   always there, and what the others are held against

`tiktoken` is measured too, but needs the vocabulary in another form and is slower than gigatoken.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tokenizers

from storylm.text.bytelevel import ALPHABET, is_byte_level

Encode = Callable[[Sequence[str]], list[np.ndarray]]
"""Texts to their ids (uint32), in order, special tokens neither recognised nor added."""


def fastest_encoder(tokenizer: tokenizers.Tokenizer) -> tuple[str, Encode]:
    """The name and the function of the first encoder that can be had and agrees with `tokenizer` on odd texts."""
    for name, build in ENCODERS.items():
        encode = build(tokenizer)
        if encode is not None and _agree(encode, _tokenizers(tokenizer), _odd_texts(tokenizer)):
            return name, encode
    raise AssertionError("tokenizers agrees with itself")


def _bytes(tokenizer: tokenizers.Tokenizer) -> Encode | None:
    spec = json.loads(tokenizer.to_str())
    vocabulary = spec["model"].get("vocab", {})
    if not is_byte_level(spec) or spec["model"]["merges"]:
        return None
    if any(vocabulary[character] != byte for byte, character in enumerate(ALPHABET)):
        return None
    return lambda texts: [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]


def _gigatoken(tokenizer: tokenizers.Tokenizer) -> Encode | None:
    try:
        import gigatoken
    except ImportError:
        return None
    spec = json.loads(tokenizer.to_str())
    # It knows no `encode_special_tokens`: a special token that it has not heard of is ordinary text.
    spec["added_tokens"] = [token for token in spec["added_tokens"] if not token["special"]]
    try:
        fast = gigatoken.Tokenizer.from_json(json.dumps(spec))
    except Exception:  # a kind that it does not read; it says so in several ways
        return None

    # One by one: this is many times faster than stories can be read and cleaned, needs no threads beside the
    # processes that prepare a corpus, and spares the import of awkward, the arrays that its batches come in.
    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return [
            _encode_batch(tokenizer, [text])[0] if _has_rare_letters(text) else np.asarray(fast.encode(text), np.uint32)
            for text in texts
        ]

    return encode


# Which characters are letters and digits, and so where words part, is Unicode's to say, and the encoders are built
# with different versions of it. In these ranges (alphabets of Europe and the Near East, signs, Chinese, Japanese,
# Korean, emoji) they agree, as a test proves on every character, and no version will add a letter or a digit.
_RARE = re.compile("[^\0-\u07ff\u1e00-\u27bf\u3000-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\ufe00-\uffff\U0001f000-\U0001faff]")


def _has_rare_letters(text: str) -> bool:
    return not text.isascii() and _RARE.search(text) is not None


def _tokenizers(tokenizer: tokenizers.Tokenizer) -> Encode:
    return partial(_encode_batch, tokenizer)


def _encode_batch(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, np.uint32) for encoding in encodings]


ENCODERS: dict[str, Callable[[tokenizers.Tokenizer], Encode | None]] = {
    "bytes": _bytes,
    "gigatoken": _gigatoken,
    "tokenizers": _tokenizers,
}
"""How to build each one, fastest first; None where it is not installed or cannot do with the tokenizer."""


def _agree(encode: Encode, reference: Encode, texts: Sequence[str]) -> bool:
    try:
        ids = encode(texts)
    except Exception:
        return False
    return len(ids) == len(texts) and all(map(np.array_equal, ids, reference(texts)))


def _odd_texts(tokenizer: tokenizers.Tokenizer) -> list[str]:
    """What encoders have been seen to differ in: white space, contractions, scripts, unassigned and special tokens."""
    specials = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    return [
        "",
        " ",
        "Once upon a time, there was a little girl named Lily.",
        "  two spaces,\ttabs\t\t and trailing ones   ",
        "\n\nline ends \n \r\n x\n",
        "I'll we'RE they'd It's 'tis ''s",
        "12 345 6789 ١٢٣ ½ Ⅷ",
        "naïve café e\u0301 日本語 Привет \u2028 \u00a0 \u3000 \u0085 \u200b \ufeff ▁x ▁▁",
        "🙂👩‍👩‍👧🇪🇺 \U000e0001 \U0010ffff \ufffd",
        "\x00\x01\x7f \x1b[0m",
        "<0x0A> <s> </s> <unk> <|endoftext|>",
        *(f"a{special}b {special}" for special in specials),
        "a" * 3000,
        " " * 300,
    ]

"""A tokenizer as programs outside Python want it: every token's text and kind, with scores or with merges.

They know two kinds of BPE: byte-level as GPT-2 has it, which needs the merges in order, and SentencePiece's, which
needs a score for every token and merges whichever two give the best.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from storylm.config.errors import UsageError
from storylm.text.bytelevel import ENDOFTEXT
from storylm.text.tokenizer import Tokenizer

Merges = list[tuple[str, str]]
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Kind(Enum):
    """What a token is for."""

    NORMAL = "normal"
    UNKNOWN = "unknown"
    CONTROL = "control"
    BYTE = "byte"
    UNUSED = "unused"


@dataclass(frozen=True)
class Token:
    """`score`: of SentencePiece's, 0 for the best and -1, -2... for the others; 0 in byte-level vocabularies."""

    text: str
    kind: Kind
    score: float = 0.0


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id; `merges` in their order, where `byte_level`. `loses_spaces`: of several it keeps one."""

    byte_level: bool
    tokens: list[Token]
    merges: Merges
    loses_spaces: bool = False


def vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """The vocabulary, filled up to the `rows` of the model's table with tokens that never come.

    >>> vocabulary(Tokenizer.load("bytes"), 257).tokens[256]
    Token(text='<|endoftext|>', kind=<Kind.CONTROL: 'control'>, score=0.0)

    Raises:
        UsageError: text is cut in a way that is neither GPT-2's nor SentencePiece's.
    """
    spec = tokenizer.to_json()
    model = spec["model"]
    merges = [_pair(merge) for merge in model.get("merges", [])]
    texts = {id: text for text, id in model["vocab"].items()}
    texts |= {token["id"]: token["content"] for token in spec["added_tokens"]}
    # Tokens that are found in text before it is cut: each program has its own way with them.
    extra = any(not token["special"] for token in spec["added_tokens"])
    if not extra and _is_gpt2(tokenizer, spec, merges):
        tokens = [Token(texts.get(id, f"<unused {id}>"), _kind(tokenizer, texts, id)) for id in range(rows)]
        return Vocabulary(True, tokens, merges or [(ENDOFTEXT, ENDOFTEXT)])  # some programs want one; this never comes
    if not extra and _is_sentencepiece(spec, merges):
        kinds = {id: _sentencepiece_kind(tokenizer, texts, id, model.get("unk_token")) for id in range(rows)}
        scores = _scores(merges, texts, kinds)
        tokens = [Token(texts.get(id, f"<unused {id}>"), kinds[id], scores.get(id, 0.0)) for id in range(rows)]
        return Vocabulary(False, tokens, [], loses_spaces=len(_steps(spec["normalizer"])) > 2)
    raise UsageError(
        f"tokenizer {tokenizer.name} cuts text neither as GPT-2 does nor as SentencePiece does, the two ways that "
        "programs outside Python know: export to hf or onnx, which keep its tokenizer.json"
    )


def _is_gpt2(tokenizer: Tokenizer, spec: dict[str, Any], merges: Merges) -> bool:
    """Without merges the words that GPT-2's regex parts do not matter."""
    before = spec["pre_tokenizer"] or {}
    return tokenizer.lossless and before.get("type") == "ByteLevel" and (bool(before.get("use_regex")) or not merges)


def _is_sentencepiece(spec: dict[str, Any], merges: Merges) -> bool:
    """Whether bytes stand for unknown characters, ▁ for spaces, and the merges are all there are, best result first."""
    model, normalizer = spec["model"], _steps(spec["normalizer"])
    if not (model["type"] == "BPE" and model.get("byte_fallback") and spec["pre_tokenizer"] is None):
        return False
    if {step["type"] for step in normalizer} != {"Prepend", "Replace"}:
        return False
    results = ["".join(pair) for pair in merges]
    in_order = list(dict.fromkeys(results))
    together = [result for result, before in zip(results, [None, *results], strict=False) if result != before]
    if together != in_order:
        return False
    given, mergeable = set(merges), set(in_order) | {text for pair in merges for text in pair}
    halves = ((text[:cut], text[cut:]) for text in mergeable for cut in range(1, len(text)))
    return all(pair in given for pair in halves if mergeable.issuperset(pair))


def _scores(merges: Merges, texts: dict[int, str], kinds: dict[int, Kind]) -> dict[int, float]:
    """Falling with the order of the merges; what is no result of one, single characters, comes after, by id."""
    normal = {text: id for id, text in sorted(texts.items()) if kinds.get(id) is Kind.NORMAL}
    order = list(dict.fromkeys(["".join(pair) for pair in merges] + list(normal)))
    return {normal[text]: -float(rank) for rank, text in enumerate(order)}


def _kind(tokenizer: Tokenizer, texts: dict[int, str], id: int) -> Kind:
    if id not in texts:
        return Kind.UNUSED
    return Kind.CONTROL if id in tokenizer.special_ids else Kind.NORMAL


def _sentencepiece_kind(tokenizer: Tokenizer, texts: dict[int, str], id: int, unknown: str | None) -> Kind:
    if _BYTE.fullmatch(texts.get(id, "")):
        return Kind.BYTE
    return Kind.UNKNOWN if unknown and texts.get(id) == unknown else _kind(tokenizer, texts, id)


def _steps(normalizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    normalizer = normalizer or {"type": "none"}
    return normalizer.get("normalizers", [normalizer])


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right

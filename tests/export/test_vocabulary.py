"""Tokenizers as other programs want them: what is of neither kind is refused, and scores give the merges' own order."""

import itertools
import json
from pathlib import Path

import pytest
import tokenizers

from storylm.config.errors import UsageError
from storylm.export.vocabulary import Kind, vocabulary
from storylm.text.tokenizer import Tokenizer


def test_byte_level(own: Tokenizer) -> None:
    words = vocabulary(own, own.vocab_size + 2)
    assert words.byte_level
    assert not words.loses_spaces
    assert [token.kind for token in words.tokens[-3:]] == [Kind.NORMAL, Kind.UNUSED, Kind.UNUSED]
    assert [token.text for token in words.tokens if token.kind is Kind.CONTROL] == [own.end]
    assert words.merges == [tuple(pair) for pair in own.to_json()["model"]["merges"]]


def test_without_merges_there_is_one_that_never_comes() -> None:
    words = vocabulary(Tokenizer.load("bytes"), 257)
    assert words.merges == [("<|endoftext|>", "<|endoftext|>")]


@pytest.mark.parametrize("kind", ["mistral", "stories260K/tok512.model"])
def test_sentencepiece_merges_by_score_as_the_original_by_rank(kind: str, shared: Path) -> None:
    tokenizer = Tokenizer.load(shared / "reference" / kind)
    words = vocabulary(tokenizer, tokenizer.vocab_size)
    assert not words.byte_level
    assert words.loses_spaces == (kind != "mistral")
    scores = {token.text: token.score for token in words.tokens if token.kind is Kind.NORMAL}
    kinds = [token.kind for token in words.tokens]
    assert (kinds.count(Kind.BYTE), kinds.count(Kind.UNKNOWN), kinds.count(Kind.CONTROL)) == (256, 1, 2)
    for text in ("Once upon a time, there was a cat.", "Tom's 12 naïve friends didn't know 雪!"):
        pieces = list("▁" + text.replace(" ", "▁"))
        while True:  # SentencePiece's way: the best score first, the leftmost of equals
            pairs = [(scores.get(a + b, -1e9), -at) for at, (a, b) in enumerate(itertools.pairwise(pieces))]
            score, at = max(pairs)
            if score == -1e9:
                break
            pieces[-at : 2 - at] = [pieces[-at] + pieces[1 - at]]
        ids = {token.text: id for id, token in enumerate(words.tokens)}
        expected = [
            id
            for piece in pieces
            for id in ([ids[piece]] if piece in ids else [ids[f"<0x{byte:02X}>"] for byte in piece.encode()])
        ]
        assert tokenizer.encode(text) == expected


def changed(tokenizer: Tokenizer, **spec) -> Tokenizer:
    """The tokenizer with other steps, or with the merges that a function gives."""
    values = tokenizer.to_json()
    if merges := spec.pop("merges", None):
        values["model"]["merges"] = merges(values["model"]["merges"])
    values |= spec
    made = tokenizers.Tokenizer.from_str(json.dumps(values))
    return Tokenizer(made, tokenizer.start, tokenizer.end, "changed")


def apart(merges: list[list[str]]) -> list[list[str]]:
    """One of two merges with the same result goes to the end, where no score of that result could put it."""
    results = ["".join(merge) for merge in merges]
    first = next(at for at, result in enumerate(results) if results.count(result) > 1)
    return [*merges[:first], *merges[first + 1 :], merges[first]]


def test_what_other_programs_would_cut_otherwise_is_refused(own: Tokenizer, shared: Path) -> None:
    sentencepiece = Tokenizer.load(shared / "reference" / "stories260K" / "tok512.model")
    split = {"type": "Digits", "individual_digits": True}
    steps = {"type": "Sequence", "pretokenizers": [split, own.to_json()["pre_tokenizer"]]}
    whole = {**own.to_json()["pre_tokenizer"], "use_regex": False}
    smile = {"id": 300, "content": ":-)", "special": False, "normalized": False, "single_word": False}
    smile |= {"lstrip": False, "rstrip": False}
    for tokenizer in (
        changed(own, added_tokens=[*own.to_json()["added_tokens"], smile]),
        changed(own, pre_tokenizer=steps),
        changed(own, pre_tokenizer=whole),
        changed(sentencepiece, merges=apart),
        changed(sentencepiece, merges=lambda merges: [merge for merge in merges if "".join(merge) != "he"]),
        changed(sentencepiece, pre_tokenizer={"type": "Whitespace"}),
        changed(sentencepiece, normalizer={"type": "Lowercase"}),
    ):
        with pytest.raises(UsageError, match="neither as GPT-2 does nor as SentencePiece does"):
            vocabulary(tokenizer, tokenizer.vocab_size)

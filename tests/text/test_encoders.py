"""Every encoder gives the ids of `tokenizers`: on real stories, on any text, on every letter there is."""

import json
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storylm.text import encoders
from storylm.text.encoders import ENCODERS, Encode, fastest_encoder
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

from .conftest import KINDS

USED = {"bytes": "bytes", "own": "gigatoken", "gpt2": "gigatoken", "mistral": "gigatoken", "llama2c": "tokenizers"}
FAST = [kind for kind, encoder in USED.items() if encoder != "tokenizers"]

# What stories are made of and what splits words, beside everything else.
PIECES = st.sampled_from(
    ["Once", " upon", "'ll", "'S", "  ", "\n", "12", "é", "▁", "🙂", "<|endoftext|>", "<s>", "\u0301"]
)
TEXT = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=12).map("".join)


@pytest.fixture(scope="session")
def pair(tokenizer_of) -> Callable[[str], tuple[Encode, Encode]]:
    """The encoder that is used for one of `KINDS`, and `tokenizers`."""

    @cache
    def get(kind: str) -> tuple[Encode, Encode]:
        if USED[kind] == "gigatoken":
            pytest.importorskip("gigatoken")
        tokenizer = tokenizer_of(kind)._tokenizer
        encode = ENCODERS[USED[kind]](tokenizer)
        assert encode is not None
        return encode, ENCODERS["tokenizers"](tokenizer)

    return get


def same(ids: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return len(ids) == len(others) and all(map(np.array_equal, ids, others))


@pytest.mark.parametrize("kind", KINDS)
def test_the_fastest_one_is_used(tokenizer_of, kind) -> None:
    if USED[kind] == "gigatoken":
        pytest.importorskip("gigatoken")
    assert tokenizer_of(kind).encoder == USED[kind]


@pytest.mark.parametrize("kind", ["bytes", "own-4k", "gpt2", "mistral"])
def test_ids_are_the_same_on_real_stories(tokenizer_of, pair, train_stories, valid_stories, kind) -> None:
    if kind == "own-4k":
        pytest.importorskip("gigatoken")
        own = train_bpe(train_stories[:2000], 4096)
        assert own.encoder == "gigatoken"
        encode, reference = own.encode_batch, ENCODERS["tokenizers"](own._tokenizer)
    else:
        encode, reference = pair(kind)
    stories = [*train_stories[::3], *valid_stories, "\n".join(valid_stories)]
    assert same(encode(stories), reference(stories))


@pytest.mark.parametrize("kind", FAST)
@settings(max_examples=200)
@given(text=TEXT)
@example("")
@example("\ufeff\x00\x85\u2028 \u3000x")
@example("\U000e0001\U0010ffff")
def test_ids_are_the_same_on_any_text(pair, kind, text) -> None:
    encode, reference = pair(kind)
    assert same(encode([text]), reference([text]))


@pytest.mark.parametrize("kind", FAST)
def test_ids_are_the_same_on_very_long_words_and_runs(pair, kind) -> None:
    encode, reference = pair(kind)
    texts = ["a" * 50_000, " " * 20_000, "ab" * 20_000, "\n" * 5000, "é" * 9000, "word " * 9000, "🙂" * 3000]
    assert same(encode(texts), reference(texts))


def test_ids_are_the_same_on_every_letter_that_gigatoken_is_given(pair) -> None:
    """Letters and digits part words, by tables of Unicode that differ between encoders outside of these ranges."""
    encode, reference = pair("gpt2")
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    common = [character for character in characters if not encoders._has_rare_letters(character)]
    assert len(common) > 40_000
    # Of the ranges of one kind of letter (Chinese, Korean) a sample will do.
    alphabets = [character for character in common if not "\u3400" <= character <= "\ud7a3"]
    texts = [f"a{x} {x}{x}1 \n{x} !{x}'s " for x in [*alphabets, *common[::29]]]
    assert same(encode(texts), reference(texts))


def test_text_with_rare_letters_goes_to_tokenizers(pair) -> None:
    """U+1E6C0 is a letter since Unicode 17: to gigatoken, not yet to `tokenizers`."""
    encode, reference = pair("gpt2")
    texts = ["a\U0001e6c0 \U0001e6c0\U0001e6c01", "plain", "café"]
    assert same(encode(texts), reference(texts))


def test_without_gigatoken_the_ids_are_the_same(tokenizer_of, monkeypatch) -> None:
    own = tokenizer_of("own")  # first: whoever asks next is to find it with its own encoder
    monkeypatch.setitem(sys.modules, "gigatoken", None)  # importing it now fails
    name, encode = fastest_encoder(own._tokenizer)
    assert name == "tokenizers"
    texts = ["Once upon a time", "", "naïve 🙂"]
    assert same(encode(texts), own.encode_batch(texts))


@pytest.mark.parametrize("wrong", ["ids", "count", "error"])
def test_an_encoder_that_differs_is_not_used(tokenizer_of, monkeypatch, wrong) -> None:
    own = tokenizer_of("own")

    def build(_tokenizer) -> Encode:
        def encode(texts):
            if wrong == "error":
                raise ValueError("not that text")
            ids = own.encode_batch(texts)
            return ids[:-1] if wrong == "count" else [ids[0], ids[1] + 1, *ids[2:]]

        return encode

    monkeypatch.setattr(encoders, "ENCODERS", {"wrong": build, "tokenizers": ENCODERS["tokenizers"]})
    assert fastest_encoder(own._tokenizer)[0] == "tokenizers"


def test_a_probe_that_gigatoken_fails_is_noticed(tokenizer_of, tmp_path) -> None:
    """A split that is not GPT-2's: whether gigatoken can do it or not, the ids are those of `tokenizers`."""
    tokenizer_of("own").save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    byte_level = spec["pre_tokenizer"] | {"use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": "[aeiou]+|[^aeiou]{1,3}"}, "behavior": "Isolated", "invert": False}
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    tokenizer = Tokenizer.load(tmp_path)
    texts = ["Once upon a time, there was a little girl named Lily.", "the the aeiou  bcd"]
    assert tokenizer.lossless
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]

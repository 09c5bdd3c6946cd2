"""Text to ids and back, and tokenizers saved and read again."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storylm.config.errors import DataError
from storylm.generation.text import TextStream
from storylm.text.tokenizer import Tokenizer

from .conftest import KINDS, LOSSLESS

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LITERALS = "a<|endoftext|>b <s>c</s> <unk><0x0A> </s>"
ODD = ["", " ", "  a  b ", "\n\n x\t\r\n", "naïve “é” e\u0301", "🙂👩‍👩‍👧", "\x00\x1b\x7f", "\ufeff\u2028", LITERALS]


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=ANY_TEXT)
@example(LITERALS)
@example("\ufffd\x00 \U0010ffff")
def test_byte_level_tokenizers_give_any_text_back(tokenizer_of, kind, text) -> None:
    tokenizer = tokenizer_of(kind)
    assert tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=ANY_TEXT)
def test_mistral_gives_back_all_but_its_own_space_sign(tokenizer_of, text) -> None:
    tokenizer = tokenizer_of("mistral")
    assert not tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


def test_llama2c_gives_stories_back_but_not_runs_of_spaces(tokenizer_of) -> None:
    tokenizer = tokenizer_of("llama2c")
    assert not tokenizer.lossless
    story = "Once upon a time.\nShe said, “Hi 🙂”\n\nThe end."
    assert tokenizer.decode(tokenizer.encode(story)) == story
    assert tokenizer.decode(tokenizer.encode("  two  spaces ")) == "two spaces"


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_text_are_text_and_ids_of_special_tokens_are_not(tokenizer_of, kind) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(LITERALS)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode_batch([LITERALS])[0].tolist())
    assert tokenizer.decode(ids) == LITERALS
    assert {tokenizer.start_id, tokenizer.end_id} <= tokenizer.special_ids
    assert (
        tokenizer.decode([tokenizer.start_id, *ids[:1], *tokenizer.special_ids, *ids[1:], tokenizer.end_id]) == LITERALS
    )


@pytest.mark.parametrize(
    ("kind", "vocab_size", "start", "end"),
    [
        ("bytes", 257, 256, 256),
        ("gpt2", 50257, 50256, 50256),
        ("mistral", 32000, 1, 2),
        ("llama2c", 512, 1, 1),  # llama2.c parts stories by BOS alone
    ],
)
def test_ids_around_a_story(tokenizer_of, kind, vocab_size, start, end) -> None:
    tokenizer = tokenizer_of(kind)
    assert (tokenizer.vocab_size, tokenizer.start_id, tokenizer.end_id) == (vocab_size, start, end)
    assert tokenizer.story_ids([5, 6]) == ([5, 6, end] if start == end else [start, 5, 6, end])


def test_ids_are_the_published_ones(tokenizer_of) -> None:
    """GPT-2's and Mistral's ids of a sentence, as their own authors' libraries give them."""
    assert tokenizer_of("gpt2").encode("Once upon a time, there was") == [7454, 2402, 257, 640, 11, 612, 373]
    assert tokenizer_of("mistral").encode("Once upon a time, there was") == [5713, 3714, 264, 727, 28725, 736, 403]
    assert tokenizer_of("bytes").encode("Oé") == [79, 195, 169]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_texts_one_by_one_in_order(tokenizer_of, kind) -> None:
    tokenizer = tokenizer_of(kind)
    texts = [*ODD, "same", "same", *reversed(ODD)]
    batch = tokenizer.encode_batch(texts)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(text) for text in texts]
    assert all(isinstance(ids, np.ndarray) and ids.dtype == np.uint32 and ids.ndim == 1 for ids in batch)
    assert tokenizer.encode_batch([]) == []
    assert [tokenizer.decode(ids) for ids in batch[:3]] == [
        tokenizer.decode(tokenizer.encode(text)) for text in texts[:3]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(tokenizer_of, kind, tmp_path) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer.save(tmp_path / "new" / "folder")
    copies = [
        Tokenizer.load(tmp_path / "new" / "folder"),
        Tokenizer.load(tmp_path / "new" / "folder" / "tokenizer.json"),
        pickle.loads(pickle.dumps(tokenizer)),
    ]
    for copy in copies:
        for name in ("vocab_size", "start_id", "end_id", "special_ids", "lossless", "fingerprint", "encoder"):
            assert getattr(copy, name) == getattr(tokenizer, name), name
        assert [copy.encode(text) for text in ODD] == [tokenizer.encode(text) for text in ODD]
        assert copy.decode([copy.start_id, *copy.encode("Hi")]) == "Hi"
    before = (tmp_path / "new" / "folder" / "tokenizer.json").read_bytes()
    copies[0].save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [
        ("bytes", "qwen3"),
        ("own", "qwen3"),
        ("own", "llama"),
        ("gpt2", "gpt_neo"),
        ("mistral", "mistral"),
        ("llama2c", "llama"),
    ],
)
def test_transformers_loads_what_is_saved(tokenizer_of, kind, model_type, tmp_path) -> None:
    """Beside a config.json too, by whose model type transformers might choose a class of its own."""
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizer_of(kind)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.start_id, tokenizer.end_id)
    assert len(theirs) == tokenizer.vocab_size
    for text in (text for text in ODD if text != LITERALS):  # transformers takes literal special tokens for special
        ids = tokenizer.encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids) == tokenizer.decode(ids)
    assert theirs.decode(tokenizer.encode("yes . no !")) == "yes . no !"
    assert theirs.init_kwargs["clean_up_tokenization_spaces"] is False  # transformers 4 would take " ." for "."
    assert (theirs("Hi").input_ids[0] == tokenizer.start_id) == (kind in ("mistral", "llama2c"))


def test_fingerprint_tells_tokenizers_apart_and_is_stable(tokenizer_of, tmp_path) -> None:
    assert len({tokenizer_of(kind).fingerprint for kind in KINDS}) == len(KINDS)
    tokenizer_of("llama2c").save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    reordered = json.dumps(dict(reversed(spec.items())), indent=3)
    (tmp_path / "tokenizer.json").write_text(reordered, "utf-8")
    assert Tokenizer.load(tmp_path).fingerprint == tokenizer_of("llama2c").fingerprint
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "</s>"}))
    other_end = Tokenizer.load(tmp_path)
    assert other_end.end_id == 2
    assert other_end.fingerprint != tokenizer_of("llama2c").fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_are_refused_in_one_line(tokenizer_of, kind) -> None:
    with pytest.raises(DataError, match=r"U\+D83D, at character 2"):
        tokenizer_of(kind).encode("ab\ud83d")
    with pytest.raises(DataError, match=r"U\+D83D, at character 0"):
        tokenizer_of(kind).encode_batch(["fine", "\ud83d"])


@pytest.mark.parametrize("kind", KINDS)
@given(text=ANY_TEXT)
def test_told_token_by_token_the_text_is_the_same(tokenizer_of, kind, text) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text)
    stream = TextStream(tokenizer, [tokenizer.start_id])
    assert "".join(map(stream.add, ids)) + stream.finish() == tokenizer.decode(ids)


def test_truncation_and_padding_of_the_file_are_not_ours(tokenizer_of, tmp_path) -> None:
    tokenizer_of("own").save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert len(Tokenizer.load(tmp_path).encode("Once upon a time, there was a cat.")) > 3


@pytest.mark.parametrize("name", ["bytes", "gpt2", "mistral"])
def test_spans_are_where_the_tokens_stand(name, request):
    tokenizer = Tokenizer.load("bytes" if name == "bytes" else request.getfixturevalue("shared") / "reference" / name)
    texts = ["Once upon a time, Lily's café – 🙂!\n\nThe end. <|endoftext|>", "", " two  spaces "]
    for text, spans, ids in zip(texts, tokenizer.spans(texts), tokenizer.encode_batch(texts), strict=True):
        assert spans.shape == (len(ids), 2)
        assert (np.diff(spans[:, 1]) >= 0).all()
        covered = {place for first, end in spans.tolist() for place in range(first, end)}
        assert covered == set(range(len(text)))
        whole = [
            (text[first:end], tokenizer.decode([id])) for (first, end), id in zip(spans.tolist(), ids, strict=True)
        ]
        # Where a token is whole characters, it decodes to them, but for a space that SentencePiece adds or drops.
        assert all(
            span.strip() == decoded.strip() for span, decoded in whole if "\ufffd" not in decoded and span.isascii()
        )


def test_spans_of_a_lone_surrogate_are_refused():
    with pytest.raises(DataError, match="lone surrogate"):
        Tokenizer.load("bytes").spans(["\ud800"])

"""Tokens one by one: names that tell them apart, and characters that are those of the decoded text."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storylm.text.pieces import Spans

from .conftest import KINDS, LOSSLESS

ANY_IDS = st.lists(st.integers(0, 511), max_size=30)
WORDS = st.text(st.sampled_from("aé“🙂 \n\ufffd"), max_size=12)


def spans_of(tokenizer, ids):
    spans = Spans(tokenizer.pieces)
    return [spans.add(id) for id in ids], spans.length


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=WORDS)
@example("é“x”y")
def test_spans_of_ids_are_those_of_their_text(tokenizer_of, kind, text) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text)
    found, length = spans_of(tokenizer, [tokenizer.start_id, *ids])
    assert found[0] == (0, 0)
    assert length == len(text)
    for id, (first, end) in zip(ids, found[1:], strict=True):
        assert tokenizer.pieces.bytes(id) in text[first:end].encode()


@pytest.mark.parametrize("kind", KINDS)
@given(ids=ANY_IDS)
@example([198, 199, 198, 68])  # llama2.c: bytes that are a character, and one that is none after them
@example([35, 230, 420])
@example([170, 95])  # own: the first two bytes of a surrogate, which are no character whatever follows
@example([0xED, 0xA0, 0x80, 0x41])  # bytes: all of one
def test_spans_end_where_the_decoded_text_does(tokenizer_of, kind, ids) -> None:
    """Whatever the ids are, parts of characters included: no drift."""
    tokenizer = tokenizer_of(kind)
    ids = [id for id in ids if id < tokenizer.vocab_size]
    found, length = spans_of(tokenizer, ids)
    assert length == len(tokenizer.decode(ids))
    for place, (first, end) in enumerate(found):
        before = len(tokenizer.decode(ids[:place]))
        if tokenizer.pieces.is_byte(ids[place]):
            continue  # whether those before it were a character is told by those after it
        assert before - 1 <= first <= before
        assert first <= end == len(tokenizer.decode(ids[: place + 1]))


def test_a_character_of_several_tokens_is_in_the_span_of_each(tokenizer_of) -> None:
    tokenizer = tokenizer_of("bytes")
    found, _ = spans_of(tokenizer, tokenizer.encode("é“x”y"))
    assert [first for first, _ in found] == [0, 0, 1, 1, 1, 2, 3, 3, 3, 4]
    assert [end for _, end in found] == [1, 1, 2, 2, 2, 3, 4, 4, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_tokens_have_one_name(tokenizer_of, kind) -> None:
    tokenizer = tokenizer_of(kind)
    ids = [id for id in range(tokenizer.vocab_size) if tokenizer.piece(id)]
    assert len({tokenizer.pieces.name(id) for id in ids}) == len(ids)


def test_names(tokenizer_of) -> None:
    gpt2 = tokenizer_of("gpt2").pieces
    assert [gpt2.name(id) for id in (7454, 2402, 447, 250, 50256)] == [
        "Once",
        " upon",
        "bytes:\\xe2\\x80",
        "bytes:\\x9c",
        "<|endoftext|>",
    ]
    assert gpt2.name(564) == "bytes: \\xe2\\x80"
    mistral = tokenizer_of("mistral").pieces
    assert [mistral.name(id) for id in (0, 1, 2, 5713, 13)] == ["<unk>", "<s>", "</s>", " Once", "\n"]
    letter = next(id for id in range(300) if mistral.tokenizer.piece(id) == "<0x41>")
    assert mistral.name(letter) == "bytes:A"

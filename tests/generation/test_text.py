"""Pieces of text: joined they are the whole, and each one is certain."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from generation.conftest import LetterTokenizer, WordTokenizer
from storylm.generation.text import TextStream

WORDS = st.text(st.sampled_from("ab é🙂\n"), max_size=30)


def pieces(tokenizer, prompt: str, ids, stop=()) -> list[str]:
    stream = TextStream(tokenizer, tokenizer.encode(prompt), stop)
    return [*(stream.add(token) for token in ids), stream.finish()]


@given(WORDS, WORDS)
def test_any_text_comes_out_whole_and_in_whole_characters(prompt, text):
    letters = LetterTokenizer()
    out = pieces(letters, prompt, letters.encode(text))
    assert "".join(out) == text
    assert "\ufffd" not in "".join(out)
    assert out[-1] == ""  # nothing is held back without need


@given(st.lists(st.sampled_from([*b"\x00a\x80\xbf\xc3\xe2\x82\xac\xf0\x9f\x98\xff", 256]), max_size=60))
@example([0xE2] * 30)
@example([0xFF] * 7 + list("€".encode()))
@example([0xF0, 0x9F, 0x98] * 20 + [0x82])
@example(list("é".encode() * 3 + b"\xff" * 9 + "🙂".encode()))
def test_bytes_that_are_no_text_still_come_out(ids):
    letters = LetterTokenizer()
    assert "".join(pieces(letters, "Hi", ids)) == letters.decode(ids)


@pytest.mark.parametrize("token", [0xFF, 0x80, 0xE2, 256])
def test_what_never_becomes_a_character_is_neither_held_nor_decoded_again_and_again(token):
    """256 says nothing at all."""

    class Counting(LetterTokenizer):
        count = 0

        def decode(self, ids):
            self.count += len(ids)
            return super().decode(ids)

    counting, tokens = Counting(), 2000
    stream = TextStream(counting, counting.encode("Once"))
    said = [stream.add(token) for _ in range(tokens)]
    assert counting.count < 100 * tokens
    assert len("".join(said)) >= (tokens - 20 if token != 256 else 0)
    assert stream.add(ord("a")).endswith("a")


@example("aba", ["a ", "a", "ba"])
@example("bba", ["a", "ba", "bba"])
@given(WORDS, st.lists(st.text("ab é", min_size=1, max_size=4), max_size=3))
def test_a_stop_string_cuts_where_find_would(text, stops):
    letters = LetterTokenizer()
    out = pieces(letters, "", letters.encode(text), stops)
    # The earliest to be complete wins; of those complete with the same character, the one that begins first.
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    expected = text[: min(start for end, start in ends if end == min(ends)[0])] if ends else text
    assert "".join(out) == expected


def test_text_is_held_back_only_while_it_may_be_a_stop_string():
    letters = LetterTokenizer()
    assert pieces(letters, "", letters.encode("The elf"), ["The end"]) == ["", "", "", "", "", "The el", "f", ""]
    assert pieces(letters, "", letters.encode("aab"), ["ab"]) == ["", "a", "", ""]
    assert pieces(letters, "", letters.encode("The e"), ["The end"])[-1] == "The e"


def test_a_word_keeps_its_space_after_a_prompt():
    words = WordTokenizer()
    assert pieces(words, "the cat", [4, 2]) == [" sat", " the", ""]
    assert pieces(words, "", [2, 3]) == ["the", " cat", ""]


def test_a_stopped_stream_says_no_more():
    stream = TextStream(LetterTokenizer(), [], ["b"])
    assert [stream.add(token) for token in b"abc"] == ["a", "", ""]
    assert stream.stopped
    assert stream.finish() == ""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.text.words import name_spans, sentence_spans, sentences, speech_spans, word_spans, words


def cut(text: str, spans) -> list[str]:
    return [text[first:end] for first, end in spans]


@given(st.text(st.sampled_from("aB .!?\n\"'“”…,é"), max_size=60))
def test_sentences_hold_everything_but_the_space_between(text):
    spans = sentence_spans(text)
    inside = {place for first, end in spans for place in range(first, end)}
    assert all(first < end for first, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert all(place in inside for place, letter in enumerate(text) if not letter.isspace())
    assert len(word_spans(text)) == len(words(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He ran... Then he sat.", ["He ran...", "Then he sat."]),
        ('"Why?" she asked. “No!” he said.', ['"Why?"', "she asked.", "“No!”", "he said."]),
        ("No end\n\nThe next", ["No end", "The next"]),
        ("3.5 apples", ["3.5 apples"]),
    ],
)
def test_where_sentences_end(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mom gave it to Sue. Then Mom left. I saw Mom.", ["Mom", "Sue", "Mom", "Mom"]),
        ('He said, "Come here, Ben!" Ben came.', ["Ben", "Ben"]),
        ("The dog ran. Dog and cat. He saw The End.", ["End"]),  # `the` is written small too
        ("I like it, and I'm glad. So I’ll go.", []),
        ("“Hello,” said Mia’s mom to Mia.", ["Mia", "Mia"]),
        ("No one else.", []),
    ],
)
def test_names(text, expected):
    if "The End" in text:
        text = text.replace("The dog", "the dog")
    assert cut(text, name_spans(text)) == expected


def test_speech_ends_with_its_paragraph():
    text = '"Hi," he said, “now.” "Not closed\nNext "one" line'
    assert cut(text, speech_spans(text)) == ['"Hi,"', "“now.”", '"Not closed', '"one"']

"""What told stories are held against: the true endings of their own beginnings, as long as a told one can be."""

import pytest

from storylm.evaluation.corpus import Corpus
from storylm.evaluation.telling import Manner, part, real_stories, tell_endings
from storylm.evaluation.text.judge import Real
from storylm.evaluation.text.metric import Told
from storylm.evaluation.true_endings import as_long, as_told, true_endings
from storylm.text.tokenizer import Tokenizer

STORIES = [f"Tom had {n} cats. One was red. He liked number {n}. They all ran home." for n in range(9)]


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    path = tmp_path / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(["Short.", *STORIES]))
    return Corpus(str(path))


def test_each_ending_is_that_of_its_own_beginning(corpus):
    told = [Told(f"Tom had {n} cats. One was red.", " The end.") for n in (7, 2, 7)]
    real = true_endings(corpus, told)
    assert real is not None
    assert [story.text for story in real.endings] == [STORIES[7], STORIES[2], STORIES[7]]
    assert [story.beginning for story in real.endings] == [story.beginning for story in told]
    assert [story.text for story in real.others] == [STORIES[0], STORIES[1], STORIES[3]]


def test_a_beginning_that_is_none_of_theirs_has_no_ending(corpus):
    told = [Told("Tom had 7 cats. One was red.", ""), Told("Tom had 7 cats.", "")]  # parted elsewhere
    assert true_endings(corpus, told) is None
    assert true_endings(corpus, [Told("Once upon a time", " it rained.")]) is None


@pytest.mark.parametrize("name", ["bytes", "gpt2", "mistral"])
def test_a_true_ending_stops_where_a_model_would(name, request, valid_stories):
    tokenizer = Tokenizer.load(name if name == "bytes" else request.getfixturevalue("shared") / "reference" / name)
    true = [pieces for story in valid_stories[:20] if (pieces := part(story))]
    told = [Told("", "x" * 9, True), Told("", " ".join(true[0].told.split()[:30]), True), Told("", "y" * 3000, False)]
    limit = max(len(tokenizer.encode(story.told)) for story in told[:2])
    real = as_long(told, tokenizer, Real(true, true[:2]))
    assert [story.beginning for story in real.endings] == [story.beginning for story in true]
    assert len(real.others) == 2
    for short, whole in zip(real.endings, true, strict=True):
        tokens = len(tokenizer.encode(whole.told))
        assert whole.told.startswith(short.told)
        assert short.cut == (tokens >= limit)
        if short.cut:
            ids = tokenizer.encode(whole.told)[:limit]
            assert short.told.strip() == tokenizer.decode(ids).rstrip("\ufffd").strip()
        else:
            assert short.told == whole.told


def test_an_ending_of_just_so_many_tokens_has_none_left_to_end_with(letters):
    told, true = [Told("A.", "12345", True)], [Told("A.", "abcd"), Told("A.", "abcde"), Told("A.", "abcdef")]
    found = as_long(told, letters, Real(true, [])).endings
    assert [(story.told, story.cut) for story in found] == [("abcd", False), ("abcde", True), ("abcde", True)]


def test_where_nothing_is_known_to_be_cut_nothing_is_cut(letters):
    real = Real([Told("A.", " B.")], [])
    assert as_long([Told("A.", " C."), Told("A.", " D.", False)], letters, real) is real


def test_a_true_ending_is_as_long_as_the_told_one_that_was_cut(model, letters, corpus):
    """In a context of 32 bytes too, where a beginning leaves less room than `max_new_tokens`."""
    real = real_stories(corpus, 3)
    begun = Real([Told(story.beginning[:12], story.beginning[12:] + story.told) for story in real.endings], real.others)
    for length in (5, 20, 400):
        manner = Manner(max_new_tokens=length)
        told = tell_endings(model, letters, [story.beginning for story in begun.endings], manner)
        true = as_told(model, letters, begun, length)
        for mine, theirs in zip(told, true.endings, strict=True):
            assert mine.cut
            assert theirs.cut
            assert len(theirs.told.encode()) == min(length, model.config.context + 1 - 13)
        assert all(story.cut for story in true.others)

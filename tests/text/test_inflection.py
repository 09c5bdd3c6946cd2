"""Forms of words: those that there are, and none that is another word."""

import pytest

from storylm.text.inflection import forms


@pytest.mark.parametrize(
    ("word", "some"),
    [
        ("jump", "jump jumps jumped jumping"),
        ("hop", "hops hopped hopping"),
        ("hope", "hopes hoped hoping"),
        ("carry", "carries carried carrying"),
        ("play", "plays played playing"),
        ("die", "dies died dying"),
        ("see", "sees saw seen seeing"),
        ("go", "goes went gone going"),
        ("forget", "forgets forgot forgotten forgetting"),
        ("visit", "visits visited visiting"),
        ("light", "lights lit lighted lighting"),
        ("wish", "wishes wished wishing"),
        ("fox", "foxes fox's"),
        ("leaf", "leaves"),
        ("knife", "knives"),
        ("child", "children"),
        ("baby", "babies baby's"),
        ("big", "bigger biggest"),
        ("brave", "braver bravest bravely"),
        ("happy", "happier happiest happily"),
        ("gentle", "gently gentler"),
        ("shy", "shyer shyest shyly"),
        ("good", "better best"),
    ],
)
def test_forms(word, some):
    assert set(some.split()) <= forms(word)


@pytest.mark.parametrize(
    ("word", "others"),
    [
        ("star", "stare stared staring starry"),
        ("hat", "hate hated hating hater"),
        ("hop", "hope hoped hoping"),
        ("bell", "belly belied"),
        ("bus", "busy busier used"),
        ("see", "seed seer"),
        ("run", "runed rune"),
        ("pin", "pine pined"),
        ("plan", "plane planed planes"),
        ("car", "care cared caring"),
        ("flow", "flower flowers"),
        ("show", "shower"),
        ("corn", "corner"),
        ("let", "letter letters"),
        ("ear", "early earn"),
        ("wool", "wolves"),
        ("win", "wine wined window"),
        ("kit", "kite kites"),
    ],
)
def test_other_words_are_no_forms(word, others):
    assert not set(others.split()) & forms(word)


def test_no_word_of_real_stories_is_a_form_of_too_many_others(train_stories):
    """A word of a story is a form of few: of words with two, the tables or the spelling say so (found: find, found)."""
    from storylm.text.words import words

    known = {word for story in train_stories[:2000] for word in words(story) if "'" not in word}
    sources: dict[str, set[str]] = {}
    for word in known:
        for form in forms(word) & known - {word}:
            sources.setdefault(form, set()).add(word)
    doubtful = {form for form, words_ in sources.items() if len(words_) > 1}
    assert len(doubtful) < 0.005 * len(known)

"""The list of common words is what the training stories say."""

from common_words import OUTPUT, commonest


def test_a_word_counts_once_a_story() -> None:
    assert commonest(["a a a a b", "b c", "C b"], 2) == ["b", "c"]


def test_the_list_is_that_of_the_training_stories(train_stories: list[str]) -> None:
    assert OUTPUT.read_text(encoding="utf-8").split() == commonest(train_stories)

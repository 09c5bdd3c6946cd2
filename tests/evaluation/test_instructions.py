import pytest

from storylm.data.derive import derived
from storylm.data.instruct import FEATURES
from storylm.evaluation import instructions as module
from storylm.evaluation.instructions import Instruction, beginnings, follow, instructions, measures
from storylm.text.words import words


def test_there_are_fifty_beginnings_each_its_own():
    found = beginnings()
    assert len(found) == len(set(found)) == 50
    assert all(text == text.strip() and 12 <= len(words(text)) <= 60 for text in found)


def test_instructions_ask_for_what_there_is():
    found = instructions()
    assert len(found) >= 20
    assert len({one.prompt for one in found}) == len(found)
    assert {feature for one in found for feature in one.features} <= set(FEATURES)
    kinds = {name.split()[0] for one in found for name in one.check("")}
    assert kinds == {"word", "sentence", "dialogue", "moral"}
    assert any(one.summary for one in found)


def test_the_prompt_is_that_of_the_data_set():
    order = Instruction(("run", "red"), ("Dialogue", "Twist"), "He ran.", "A boy runs.")
    assert order.prompt == (
        "Features: Dialogue, Twist\nWords: run, red\nSummary: A boy runs.\nRandom sentence: He ran.\nStory: \n\n"
    )
    assert Instruction(("run",)).prompt == "Words: run\nStory: \n\n"


@pytest.mark.parametrize(
    ("word", "used", "unused"),
    [
        ("jump", "They jumped.", "They jum."),
        ("hop", "He was hopping.", "He had hope."),
        ("share", "Sharing is good.", "A shark."),
        ("hungry", "The hungriest dog.", "He hung it up."),
        ("buy", "She bought it.", "Bye!"),
        ("win", "He won.", "The window."),
        ("lost", "He will lose it.", "He is last."),
        ("star", "The stars shone.", "He stared and was staring."),
        ("hat", "The hat's gone.", "He hated it and is hating it."),
        ("bell", "The bells rang.", "A full belly."),
        ("bus", "Two buses came.", "She was busy with her business."),
        ("seed", "She saw seeds.", "He needed it."),
        ("slow", "A slower, slowest snail went slowly.", "The slope."),
        ("careful", "He was more careful.", "He took care."),
        ("bread", "They ate breads.", "A breath."),
        ("win", "He wins and is winning.", "The wine, the winner's."),
    ],
)
def test_words_count_in_any_form(word, used, unused):
    order = Instruction((word,))
    assert order.check(used) == {f"word {word}": True}
    assert order.check(unused) == {f"word {word}": False}


def test_sentence_speech_and_moral():
    order = Instruction(features=("Dialogue", "MoralValue", "Twist"), sentence="He did not let go.")
    good = '"Hold on," he said. He did not\nlet go! He learned to be strong.'
    assert order.check(good) == {"sentence": True, "dialogue": True, "moral": True}
    assert order.check("He let go. Then he did not.") == {"sentence": False, "dialogue": False, "moral": False}


@pytest.mark.parametrize(
    ("story", "there"),
    [
        ("It rained. He did not let go.", True),
        ("he did not let go", True),
        ("He did not let go! Tom ran.", True),
        ('"Hold on." He did not\nlet go.', True),
        ("She did not let go.", False),
        ("He did not let go of the string.", False),
        ("Mom saw that he did not let go.", False),
        ("The did not let go.", False),
        ("He did not. Let goats eat.", False),
        ("", False),
    ],
)
def test_the_sentence_is_one_of_the_story_not_a_piece_of_one(story, there):
    assert Instruction(sentence="He did not let go.").check(story) == {"sentence": there}


@pytest.mark.parametrize("seed", range(3))
def test_what_a_derived_order_asks_for_is_found_in_its_story(valid_stories, seed):
    for story in valid_stories[:150]:
        found = Instruction(**vars(derived(story, seed))).check(story)
        assert all(found.values()), (found, story)


def test_wishes_are_counted_by_kind():
    orders = [Instruction(("dog", "cat"), ("Dialogue",)), Instruction(("sun",))]
    found = {measure.name: measure for measure in measures(['The dog said, "Woof."', "It rained."], orders)}
    assert found["instruct_word"].value == pytest.approx(1 / 3)
    assert found["instruct_dialogue"].value == 1
    assert found["instruct_word"].interval == (0, 0.5)  # stories are drawn, with all their words


def test_a_model_tells_a_story_to_each(model, letters, monkeypatch):
    monkeypatch.setattr(module, "instructions", lambda: (Instruction(("a",)), Instruction(("b",), sentence="x" * 99)))
    told = follow(model, letters, seed=1, max_new_tokens=8)
    assert len(told) == 2
    assert told == follow(model, letters, seed=1, max_new_tokens=8) != follow(model, letters, seed=2, max_new_tokens=8)

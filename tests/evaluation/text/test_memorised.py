import random

import pytest

pytest.importorskip("rouge_score")

from storylm.evaluation.text.memorised import Echoes, memorised

WORDS = [first + second for first in "bcdfgh" for second in ("a", "e", "i", "o", "ool", "un")]


def story(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def test_a_copied_run_is_found_to_the_word():
    train = [story(seed) for seed in range(40)]
    copied = train[7].split()[20:45]
    told = story(100, 30) + " " + " ".join(copied).title() + "! " + story(101, 30)
    echoes = Echoes([told, story(102)])
    echoes.read(train)
    assert echoes.longest[0] in (25, 26)  # the word before or after may be the same by chance
    assert echoes.grams[0] == (echoes.longest[0] - 12, 85 - 12)
    assert echoes.longest[1] < 6
    assert echoes.grams[1] == (0, 48)


def test_the_nearest_training_story_is_found():
    train = [story(seed) for seed in range(200)]
    almost = train[123].split()
    almost[10] = almost[40] = "other"
    echoes = Echoes([" ".join(almost)])
    passed: list[int] = []
    echoes.read(train * 6, passed.append)
    assert echoes.nearest == [train[123]]
    assert echoes.similarity[0] == pytest.approx(58 / 60)
    assert passed == [1000]


def test_told_stories_stand_beside_real_ones():
    train = [story(seed) for seed in range(20)]
    echoes = Echoes([train[3], train[4], story(50), story(51)])
    echoes.read(train)
    found = {measure.name: measure for measure in memorised(echoes, 2)}
    assert found["train_13_grams"].value == 1
    assert found["train_13_grams"].reference == 0
    assert found["longest_train_span"].value == 60
    assert found["longest_train_span"].reference < 6
    assert found["nearest_train_rouge_l"].value == 1 > found["nearest_train_rouge_l"].reference
    alone = memorised(Echoes([story(1)]), 1)
    assert all(measure.reference is None for measure in alone)


def test_real_validation_stories_share_little_with_train(train_stories, valid_stories):
    echoes = Echoes([*train_stories[:5], *valid_stories[:40]])
    echoes.read(train_stories[:1500])
    found = {measure.name: measure for measure in memorised(echoes, 5)}
    assert found["train_13_grams"].value == 1
    assert found["train_13_grams"].reference < 0.05
    assert 5 < found["longest_train_span"].reference < 20

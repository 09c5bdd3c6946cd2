"""Near duplicates: the estimate, the threshold, and that candidates are found whatever the number of stories."""

import random
import subprocess
import sys

import numpy as np
import pytest

from storylm.config.schema import CleaningConfig
from storylm.data import duplicates
from storylm.data.duplicates import (
    PERMUTATIONS,
    DuplicateFilter,
    _Signatures,
    band_rows,
    fingerprint,
    shingles,
    similarity,
)

CONFIG = CleaningConfig()


def random_story(seed: int, words: int = 200) -> list[str]:
    chosen = random.Random(seed)
    return [f"w{chosen.randrange(3000)}" for _ in range(words)]


def changed(words: list[str], seed: int, count: int) -> list[str]:
    """With `count` words replaced by others."""
    chosen = random.Random(seed)
    words = list(words)
    for at in chosen.sample(range(len(words)), count):
        words[at] = f"new{seed}x{at}"
    return words


def jaccard(one: str, two: str) -> float:
    a, b = set(shingles(one)), set(shingles(two))
    return len(a & b) / len(a | b)


def check(texts, config=CONFIG, against=()):
    seen = DuplicateFilter(config, [fingerprint(text, config) for text in against])
    return [seen.check(fingerprint(text, config)) for text in texts]


def test_shingles():
    assert shingles("One, two. THREE four - five six!") == ["one two three four five", "two three four five six"]
    assert shingles("Too short.") == ["too short"]
    assert shingles("") == [""]


def test_case_and_punctuation_do_not_matter_nearly_but_do_exactly():
    text = "Once upon a time, there was a cat. The cat sat on a mat and slept."
    other = text.upper().replace(",", "").replace(".", "!")
    assert check([text, other, text, text + "\n"]) == [None, "near_duplicates", "exact_duplicates", "near_duplicates"]
    assert check([text, other, text], CONFIG.model_copy(update={"near_duplicates": False})) == [
        None,
        None,
        "exact_duplicates",
    ]
    # Two stories that are short of one shingle are alike only if their words are.
    assert check(["The end.", "The end!", "The start."]) == [None, "near_duplicates", None]


def test_the_estimate_is_the_jaccard_similarity_within_its_error():
    errors = []
    for seed in range(60):
        words = random_story(seed)
        one, two = " ".join(words), " ".join(changed(words, seed, seed % 30))
        errors.append(similarity(fingerprint(one, CONFIG), fingerprint(two, CONFIG)) - jaccard(one, two))
    assert abs(np.mean(errors)) < 0.02  # unbiased: without the correction for equal low bytes it is not
    assert np.std(errors) < 0.05
    same = fingerprint("A cat sat on the mat.", CONFIG)
    assert similarity(same, same) == 1


def test_unrelated_stories_are_not_thought_alike():
    marks = [fingerprint(" ".join(random_story(seed)), CONFIG) for seed in range(200)]
    estimates = [similarity(marks[i], marks[i + 1]) for i in range(199)]
    assert max(estimates) < 0.1
    assert np.mean(estimates) < 0.003


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_the_threshold(threshold):
    config = CONFIG.model_copy(update={"near_threshold": threshold})
    caught = {"above": [], "below": []}
    for seed in range(400):
        words = random_story(seed)
        one, two = " ".join(words), " ".join(changed(words, seed, seed % 25))
        true = jaccard(one, two)
        if abs(true - threshold) > 0.1 or true == 1:
            dropped = check([one, two], config)[1] is not None
            caught["above" if true > threshold else "below"].append(dropped)
    assert len(caught["below"]) > 30
    assert np.mean(caught["below"]) < 0.02
    if threshold < 0.9:
        assert len(caught["above"]) > 30
    assert np.mean(caught["above"]) > 0.97


def test_bands_find_pairs_at_the_threshold():
    for threshold in np.arange(0.3, 1.001, 0.05):
        rows = band_rows(threshold)
        bands = PERMUTATIONS // rows
        assert 1 <= rows <= 8
        assert rows == 1 or 1 - (1 - threshold**rows) ** bands >= 0.97
    assert band_rows(0.8) == 7


def test_copies_are_found_among_many_stories_while_the_tables_grow(monkeypatch):
    monkeypatch.setattr(duplicates, "_BUILD_STORIES", 3_000)
    chosen = np.random.default_rng(0)
    kept = chosen.integers(0, 256, (20_000, PERMUTATIONS), dtype=np.uint8)
    found = _Signatures(0.8)
    for signature in kept:
        found.add(signature)
    for i in chosen.choice(len(kept), 300, replace=False):
        near = kept[i].copy()
        near[chosen.choice(PERMUTATIONS, 12, replace=False)] += 1  # 91 % alike
        assert found.nearest(near) == i
        near[chosen.choice(PERMUTATIONS, 100, replace=False)] += 7
        assert found.nearest(near) is None
    # What is filed one by one and what is filed anew when the tables grow is found the same way.
    before = [found.nearest(signature) for signature in kept[::50]]
    found._build(found.table.shape[1] * 2)
    assert [found.nearest(signature) for signature in kept[::50]] == before == list(range(0, 20_000, 50))


def test_the_earliest_of_several_is_kept_and_a_dropped_story_is_not_remembered():
    words = random_story(1)
    a, b = " ".join(words), " ".join(changed(words, 2, 3))
    far = " ".join(changed(changed(words, 2, 3), 3, 3))  # near b, and not near a
    assert min(jaccard(a, b), jaccard(b, far)) > 0.82 > 0.78 > jaccard(a, far)
    assert check([a, b]) == [None, "near_duplicates"]
    # b was dropped: what is near b alone is kept.
    assert similarity(fingerprint(b, CONFIG), fingerprint(far, CONFIG)) > similarity(
        fingerprint(a, CONFIG), fingerprint(far, CONFIG)
    )
    assert check([a, b, far]) == [None, "near_duplicates", None]
    # Near both a held-out story and one that was kept: it is the overlap that counts.
    assert check([far, b], against=[a]) == [None, "overlap"]


def test_held_out_stories_come_before_the_others():
    a, b, c = (" ".join(random_story(seed)) for seed in range(3))
    near = " ".join(changed(random_story(0), 1, 2))
    assert check([near, a, b, b, c], against=[a]) == ["overlap", "overlap", None, "exact_duplicates", None]
    off = CONFIG.model_copy(update={"overlap": False})
    assert check([a, b], off, against=[a]) == [None, None]
    # Only exactness is compared where nothing compares nearly, and a fingerprint is 8 bytes.
    exact = CleaningConfig(near_duplicates=False, overlap=False)
    assert len(fingerprint(a, exact)) == 8
    assert check([a, near, a], exact) == [None, None, "exact_duplicates"]


def test_fingerprints_are_the_same_in_every_process():
    text = "Once upon a time, there was a cat. It sat on a mat."
    program = (
        "from storylm.config.schema import CleaningConfig; from storylm.data.duplicates import fingerprint;"
        f"print(fingerprint({text!r}, CleaningConfig()).hex())"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == fingerprint(text, CONFIG).hex()


def test_memory_of_a_kept_story():
    found = _Signatures(0.8)
    chosen = np.random.default_rng(0)
    for signature in chosen.integers(0, 256, (30_000, PERMUTATIONS), dtype=np.uint8):
        found.add(signature)
    assert (found.table.nbytes + found.stored.nbytes) / 30_000 < 340

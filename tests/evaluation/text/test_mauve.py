"""MAUVE against its definition, and what it must rank."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from storylm.evaluation.likelihood import evaluate
from storylm.evaluation.text.mauve import LastState, area, k_means, mauve, principal


def test_the_area_is_1_for_equal_histograms_and_falls_to_0():
    equal = np.array([0.5, 0.3, 0.2])
    assert area(equal, equal) == pytest.approx(1)
    near, far = area(equal, np.array([0.4, 0.4, 0.2])), area(equal, np.array([0.1, 0.1, 0.8]))
    assert 1 > near > far > 0
    assert area(np.array([1.0, 0]), np.array([0, 1.0])) < 0.02


def test_the_area_is_the_published_one_by_another_way():
    """The curve computed point by point from the definition, with many more mixtures."""
    p, q, c = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4]), 5.0
    points = [(0.0, 1.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 4001)[::-1]:
        r = weight * p + (1 - weight) * q
        kl = [sum(a * np.log(a / b) for a, b in zip(some, r, strict=True)) for some in (q, p)]
        points.append((np.exp(-c * kl[0]), np.exp(-c * kl[1])))
    points.append((1.0, 0.0))
    exact = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(points))
    assert area(p, q) == pytest.approx(exact, abs=0.01)
    assert area(p, q) == pytest.approx(area(q, p))


def test_nearer_distributions_have_a_higher_mauve():
    generator = np.random.default_rng(0)
    real = generator.normal(size=(300, 6))
    figures = [mauve(generator.normal(size=(300, 6)) + shift, real) for shift in (0, 0.5, 1.5)]
    assert figures[0] > 0.9 > figures[1] > figures[2]
    assert mauve(real[:150], real) == mauve(real[:150], real)  # the same seed, the same clusters


def test_clusters_are_the_obvious_ones():
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(size=(40, 3)) + 20 * centre for centre in np.eye(3)])
    labels = k_means(points, 3, seed=0)
    assert [len(set(labels[first : first + 40])) for first in (0, 40, 80)] == [1, 1, 1]
    assert len(set(labels)) == 3


def test_principal_components_keep_distances_and_drop_noise():
    generator = np.random.default_rng(0)
    wide, noise = generator.normal(size=(100, 2)) * 10, generator.normal(size=(100, 5)) * 0.01
    found = principal(np.concatenate([noise, wide], axis=1))
    assert found.shape == (100, 2)
    assert np.linalg.norm(found[0] - found[1]) == pytest.approx(np.linalg.norm(wide[0] - wide[1]), rel=1e-3)


def test_the_last_state_of_a_story_is_the_same_in_any_batch(model, letters, stories):
    """Also of stories longer than the context, whose last window ends them."""
    alone, together = [], LastState()
    evaluate(model, letters, stories[:5], stride=5, listeners=[together])
    for story in stories[:5]:
        state = LastState()
        evaluate(model, letters, [story], stride=5, listeners=[state])
        alone.append(state.features[0])
    assert np.allclose(together.features, alone, atol=1e-4)
    ids = [letters.start_id, *b"A cat."]
    with torch.inference_mode():
        expected = model.hidden(torch.tensor([ids]))[0, -1]
    assert np.allclose(together.features[0], expected, atol=1e-4)
    assert not np.allclose(together.features[0], together.features[1], atol=1e-2)


def test_sentences_out_of_order_lower_it(shared, valid_stories):
    from storylm.evaluation.damage import damaged
    from storylm.model.llama2c import read_llama2c
    from storylm.text.tokenizer import Tokenizer

    folder = shared / "reference" / "stories260K"
    judge = read_llama2c(folder / "stories260K.bin"), Tokenizer.load(folder / "tok512.model")
    short = [story for story in valid_stories if len(story) < 700]

    def features(texts: list[str]) -> np.ndarray:
        state = LastState()
        evaluate(*judge, texts, listeners=[state])
        return state.features

    others = features(short[100:200])
    sound, broken = features(short[:100]), features(damaged(short[:100], "shuffled sentences", 1.0))
    assert mauve(sound, others) > 0.85
    assert mauve(broken, others) < 0.6

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storylm.config.errors import UsageError
from storylm.generation.sampling import Sampling, choose, draw, keep_min_p, keep_top_p, penalise_repetition

SCORES = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40).map(lambda row: torch.tensor([row]))
SHARE = st.floats(0.01, 1.0)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@given(SCORES, SHARE)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(logits, p):
    kept = keep_top_p(logits, p)[0].isfinite()
    probabilities = logits[0].double().softmax(-1)
    mass = probabilities[kept].sum()
    assert kept.any()
    assert mass >= p - 1e-5
    if kept.sum() > 1 and p < 1:
        assert mass - probabilities[kept].min() < p + 1e-5
    if not kept.all():
        assert probabilities[kept].min() >= probabilities[~kept].max() * (1 - 1e-6)  # equal in fp32


def test_top_p_takes_no_more_than_it_needs_and_as_many_as_it_must():
    assert int(keep_top_p(torch.zeros(1, 4), 0.5).isfinite().sum()) == 2
    # Rows whose set is larger than what is looked at first, beside one whose is not.
    logits = torch.zeros(3, 2048)
    logits[1, 7] = 20.0
    kept = keep_top_p(logits, 0.75).isfinite()
    assert kept.sum(-1).tolist() == [1536, 1, 1536]
    assert kept[1, 7]
    assert torch.equal(keep_top_p(logits[:1], 0.75), keep_top_p(logits, 0.75)[:1])


@given(SCORES, SHARE)
def test_min_p_is_relative_to_the_likeliest(logits, p):
    kept = keep_min_p(logits, p)[0].isfinite()
    ratio = (logits[0].double() - logits[0].double().max()).exp()
    assert kept[logits[0].argmax()]
    assert bool((ratio[kept] >= p * (1 - 1e-4)).all())
    assert bool((ratio[~kept] < p * (1 + 1e-4)).all())


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.integers(-30, 30), SHARE)
def test_filters_do_not_care_about_a_constant(row, shift, p):
    # Scores in quarters: adding a whole number to them is exact.
    logits = torch.tensor([row]) / 4
    for keep in (keep_top_p, keep_min_p):
        assert torch.equal(keep(logits + shift, p), keep(logits, p) + shift)


def test_filters_leave_the_scores_of_what_they_keep():
    logits = torch.tensor([[1.0, 3.0, 2.0, -4.0], [0.0, 0.0, 9.0, 8.0]])
    assert keep_top_p(logits, 0.9).tolist() == [[-math.inf, 3, 2, -math.inf], [-math.inf, -math.inf, 9, 8]]
    assert keep_min_p(logits, 0.2).tolist() == [[-math.inf, 3, 2, -math.inf], [-math.inf, -math.inf, 9, 8]]
    assert keep_top_p(logits, 1.0) is logits
    assert keep_min_p(logits, 0.0) is logits


def drawn(logits: torch.Tensor, sampling: Sampling, draws: int = 4000) -> torch.Tensor:
    """How often each token is drawn: shares [V]."""
    tokens = choose(logits.expand(draws, -1), sampling, generators(*range(draws)))
    return torch.bincount(tokens, minlength=logits.shape[-1]) / draws


def test_tokens_come_as_often_as_they_should():
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log() + 5
    error = 4 * (0.25 / 4000) ** 0.5  # four standard deviations at most
    assert drawn(logits, Sampling(temperature=1)).tolist() == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=error)
    assert drawn(logits, Sampling(temperature=0.5)).tolist() == pytest.approx(
        [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3], abs=error
    )
    assert drawn(logits, Sampling(temperature=1, top_k=2)).tolist() == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=error)
    assert drawn(logits, Sampling(temperature=1, top_k=3, top_p=0.7)).tolist() == pytest.approx(
        [0, 4 / 7, 0, 3 / 7], abs=error
    )
    assert drawn(logits, Sampling(temperature=1, min_p=0.6)).tolist() == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=error)


def test_temperature_0_takes_the_likeliest_and_draws_nothing():
    rows = generators(1, 2)
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    assert choose(logits, Sampling(temperature=0), rows).tolist() == [1, 0]
    assert rows[0].get_state().equal(generators(1)[0].get_state())


@given(SCORES, st.integers(0, 2**40))
def test_top_1_is_greedy_up_to_ties(logits, seed):
    token = choose(logits, Sampling(temperature=0.7, top_k=1), generators(seed))
    assert logits[0, token] == logits.max()


def test_top_k_keeps_k_tokens_even_among_equals():
    shares = drawn(torch.zeros(1, 6), Sampling(top_k=2), draws=200)
    assert int((shares > 0).sum()) == 2
    assert drawn(torch.zeros(1, 3), Sampling(top_k=50), draws=200).gt(0).all()


def test_a_row_draws_from_its_own_generator_alone():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = draw(logits, generators(5, 6, 7))
    alone = [int(draw(logits[row : row + 1], generators(5 + row))) for row in range(3)]
    assert together.tolist() == alone
    assert len(set(drawn_seeds(logits[:1]))) > 5


def drawn_seeds(logits: torch.Tensor) -> list[int]:
    return [int(draw(logits, generators(seed))) for seed in range(40)]


def test_rounding_hardly_ever_changes_a_draw():
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 4096, generator=noise) * 3
    rounded = logits + 1e-5 * torch.randn(2000, 4096, generator=noise)
    changed = draw(logits, generators(*range(2000))) != draw(rounded, generators(*range(2000)))
    assert int(changed.sum()) <= 1


def test_the_penalty_lowers_what_was_seen_whatever_its_sign():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalise_repetition(logits, seen, 4.0).tolist() == [[0.5, -8.0, 2.0, -2.0]]
    greedy = Sampling(temperature=0, repetition_penalty=4.0)
    assert choose(logits, greedy, generators(0), seen).tolist() == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
    ],
)
def test_settings_out_of_range_say_what_is_allowed(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=rf"^{name}={value} is not allowed: it is (above|from)? ?\d"):
        Sampling(**wrong)

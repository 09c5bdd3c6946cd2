import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storylm.config.errors import UsageError
from storylm.generation.sampling import (
    Sampling,
    as_int64,
    choose,
    choose_alike,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    times,
)

SCORES = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40).map(lambda row: torch.tensor([row]))
SHARE = st.floats(0.01, 1.0)


def keys(*seeds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First draws of stories with these seeds."""
    return torch.tensor([as_int64(seed) for seed in seeds]), torch.zeros(len(seeds), dtype=torch.int64)


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
    tokens = choose(logits.expand(draws, -1), [sampling] * draws, range(draws), [0] * draws)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / draws


def test_tokens_come_as_often_as_they_should(by):
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log() + 5
    error = 4 * (0.25 / 4000) ** 0.5  # four standard deviations at most
    for sampling, shares in (
        (Sampling(temperature=1), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0.5), [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        (Sampling(temperature=1, top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1, top_p=0.6), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1, top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1, min_p=0.6), [0, 4 / 7, 0, 3 / 7]),
    ):
        assert drawn(logits, sampling).tolist() == pytest.approx(shares, abs=error)


def test_both_ways_draw_the_same(by):
    """Of vocabularies that vectors divide and do not divide, narrow and wide."""
    if by == "torch":
        pytest.skip("compared by the other")
    generator, settings = torch.Generator().manual_seed(0), dict.fromkeys(("top_k", "top_p", "min_p"))
    seeds, counts = range(-16, 16), [count % 7 for count in range(32)]
    for vocabulary in (1, 5, 16, 33, 1000, 4096, 20_000):
        for spread in (0.0, 0.5, 3.0, 8.0):
            logits = spread * torch.randn(32, vocabulary + 3, generator=generator)[:, :vocabulary]
            for changed in ({}, {"temperature": 0}, {"top_k": 3}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.05},
                            {"top_k": 20, "top_p": 0.8, "min_p": 0.01, "temperature": 1.3}):  # fmt: skip
                if spread == 0 and changed:
                    continue  # among equals, the k first or others
                sampling = Sampling(**{**settings, **changed})
                tokens = choose(logits, [sampling] * 32, seeds, counts)
                again = choose_alike(logits, sampling, torch.tensor(list(seeds)), torch.tensor(counts))
                assert tokens.tolist() == again.tolist(), (vocabulary, spread, changed)


def test_rows_with_settings_of_their_own(by):
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    settings = [Sampling(), Sampling(temperature=0), Sampling(top_k=2), Sampling(), Sampling(top_p=0.5)]
    alone = [int(choose(logits[row : row + 1], [settings[row]], [9], [row])) for row in range(5)]
    assert choose(logits, settings, [9] * 5, range(5)).tolist() == alone


def test_temperature_0_takes_the_likeliest(by):
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    assert choose(logits, [Sampling(temperature=0)] * 2, [1, 2], [0, 0]).tolist() == [1, 0]


@given(SCORES, st.integers(0, 2**64 - 1))
def test_top_1_is_greedy_up_to_ties(logits, seed):
    token = choose(logits, [Sampling(temperature=0.7, top_k=1)], [seed], [3])
    assert logits[0, token] == logits.max()


def test_top_k_keeps_k_tokens_even_among_equals(by):
    shares = drawn(torch.zeros(1, 6), Sampling(top_k=2), draws=200)
    assert int((shares > 0).sum()) == 2
    assert drawn(torch.zeros(1, 3), Sampling(top_k=50), draws=200).gt(0).all()
    assert keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2).tolist() == [[-math.inf, 3, 2]]


def test_a_draw_depends_on_seed_and_count(by):
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    by_seed = [int(choose(logits, [Sampling()], [seed], [0])) for seed in range(40)]
    by_count = [int(choose(logits, [Sampling()], [0], [count])) for count in range(40)]
    assert by_seed[0] == by_count[0]
    assert len(set(by_seed)) > 5
    assert len(set(by_count)) > 5
    assert by_seed != by_count


def test_times_are_exponential_and_independent():
    """Of neighbours in seed, count and token; four standard deviations at most."""
    every = torch.stack([times(torch.full((40,), seed), torch.arange(40), torch.zeros(1, 500)) for seed in range(40)])
    n = every.numel()
    for share in (0.001, 0.05, 0.5, 0.95, 0.999):
        below = (every < -math.log(1 - share)).float().mean()
        assert float(below) == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    small = (every < 0.2).double() - float((every < 0.2).double().mean())
    for dimension in range(3):
        beside = (small * small.roll(1, dimension)).mean() / small.square().mean()
        assert abs(float(beside)) < 4 / n**0.5
    assert float(every.min()) > 5.9e-8  # as choose.cpp takes for granted


def test_rounding_hardly_ever_changes_a_draw():
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 4096, generator=noise) * 3
    rounded = logits + 1e-5 * torch.randn(2000, 4096, generator=noise)
    same_times = times(*keys(*range(2000)), logits)
    assert int((draw(logits, same_times) != draw(rounded, same_times)).sum()) <= 1


def test_the_penalty_lowers_what_was_seen_whatever_its_sign():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalise_repetition(logits, seen, 4.0).tolist() == [[0.5, -8.0, 2.0, -2.0]]


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

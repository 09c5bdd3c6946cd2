"""The law of size and tokens: found again where it holds, refused where nothing can be said, and how sure it is."""

from itertools import product

import pytest

from storylm.config.errors import UsageError
from storylm.report.law import Law, fit, ranges

pytest.importorskip("scipy")
LAW = Law(0.3, 8.0, 0.25, 40.0, 0.33)
GRID = list(product((1e5, 3e5, 1e6, 3e6), (1e6, 2e6, 4e6)))


def losses(law: Law = LAW, noise: float = 0.0) -> list[tuple[float, float, float]]:
    signs = 4 * [1, -1, 0.5]
    return [(n, d, law.loss(n, d) * (1 + noise * sign)) for (n, d), sign in zip(GRID, signs, strict=True)]


def test_it_is_found_again() -> None:
    for floor in (None, 0.3):
        found, error = fit(losses(), floor)
        assert error < 1e-5
        for key in ("floor", "a", "b"):
            assert getattr(found, key) == pytest.approx(getattr(LAW, key), rel=2e-2)


def test_there_is_no_law_of_what_losses_do_not_fall_with() -> None:
    """As where large models were trained too fast: without a bound, their exponent is below 0."""
    for what, losses in (
        ("size", [(n, d, 1.0 + 2e-8 * n + 40.0 / d**0.33) for n, d in GRID]),
        ("size", [(n, d, 1.0 + 40.0 / d**0.33) for n, d in GRID]),
        ("tokens", [(n, d, 1.0 + 8.0 / n**0.25 + 1e-8 * d) for n, d in GRID]),
    ):
        with pytest.raises(UsageError, match=f"do not fall with {what}"):
            fit(losses)


def test_what_is_due_to_which_cannot_be_told_where_both_rise_together() -> None:
    sizes = (1e5, 2e5, 4e5, 8e5, 16e5, 32e5)
    with pytest.raises(UsageError, match="rise or fall together"):
        fit([(n, 20 * n, LAW.loss(n, 20 * n)) for n in sizes])
    with pytest.raises(UsageError, match="rise or fall together"):
        fit([(n, 1e12 / n, LAW.loss(n, 1e12 / n)) for n in sizes])


def test_as_many_losses_as_numbers_say_nothing() -> None:
    with pytest.raises(UsageError, match=r"6 runs or more, of several sizes .*: here are 5, of 2 sizes, after 3"):
        fit(losses()[:5])
    with pytest.raises(UsageError, match="of 1 sizes"):
        fit([losses()[0]] * 6)


def test_ranges_are_as_wide_as_one_loss_matters() -> None:
    exact, noisy = ranges(losses()), ranges(losses(noise=0.01))
    for key in ("floor", "a", "b"):
        assert exact[key][0] <= getattr(LAW, key) * 1.02
        assert exact[key][1] >= getattr(LAW, key) * 0.98
        assert noisy[key][1] - noisy[key][0] > 10 * (exact[key][1] - exact[key][0])
    assert ranges(losses(), 0.3)["floor"] == (0.3, 0.3)

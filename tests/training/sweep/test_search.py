"""A search draws what it may, learns from what it is told, and goes on where it was."""

import pytest

from storylm.config.errors import UsageError
from storylm.training.sweep.grid import read_grid
from storylm.training.sweep.outcome import Outcome

pytest.importorskip("optuna")
from storylm.training.sweep.search import Search

SPACE = ["story-1m", "optim.lr=1e-4..1e-1", "model.layers=2..5", "optim.optimizer=adamw,muon", "train.steps=7"]


def drawn(search: Search, figure=lambda config: 1.0) -> dict[str, dict]:
    """The record of a sweep that asked until there was no more."""
    record = {}
    while (point := search.ask()) is not None:
        value = figure(point.config)
        record[point.name] = {
            "preset": point.preset,
            "settings": list(point.overrides),
            "varied": dict(point.varied),
            "ended": "finished",
            "bits_per_byte": value,
        }
        search.tell(point, Outcome("finished", value))
    return record


def test_points_are_within_their_ranges() -> None:
    search = Search(read_grid(SPACE), 12, {})
    assert search.total == 12
    record = drawn(search)
    assert list(record)[::11] == ["trial-001", "trial-012"]
    for entry in record.values():
        settings = dict(setting.split("=", 1) for setting in entry["settings"])
        assert 1e-4 <= float(settings["optim.lr"]) <= 1e-1
        assert 2 <= int(settings["model.layers"]) <= 5
        assert settings["optim.optimizer"] in ("adamw", "muon")
        assert settings["train.steps"] == "7"
        assert set(entry["varied"]) == {"optim.lr", "model.layers", "optim.optimizer"}
    rates = [float(entry["varied"]["optim.lr"]) for entry in record.values()]
    assert sum(rate < 1e-2 for rate in rates) >= 6  # by orders of magnitude, not evenly


def test_it_learns_from_what_it_is_told() -> None:
    """Late draws are nearer to the best rate, which is far from the middle, than first ones."""

    def figure(config) -> float:
        return abs(config.optim.lr - 0.08)

    record = drawn(Search(read_grid(["story-1m", "optim.lr=0.01..0.09"]), 40, {}), figure)
    figures = [entry["bits_per_byte"] for entry in record.values()]
    assert sum(figures[-10:]) < 0.6 * sum(figures[:10])


def test_it_goes_on_where_it_was() -> None:
    first = drawn(Search(read_grid(SPACE), 5, {}))
    record = {**first, "lr=1": {"preset": "story-1m", "settings": ["optim.lr=1"], "varied": {}}}
    search = Search(read_grid(SPACE), 8, record)
    assert search.total == 8
    again = drawn(search)
    assert list(again)[:5] == list(first)  # asked again, so that a sweep passes them by
    assert [again[name]["settings"] for name in first] == [first[name]["settings"] for name in first]
    assert list(again)[5:] == ["trial-006", "trial-007", "trial-008"]
    assert not {tuple(again[name]["settings"]) for name in list(again)[5:]} & {
        tuple(entry["settings"]) for entry in first.values()
    }
    other = [word.replace("train.steps=7", "train.steps=8") for word in SPACE]
    assert Search(read_grid(other), 3, first).total == 3
    assert next(iter(drawn(Search(read_grid(other), 1, first)))) == "trial-006"  # another search, in the same folder


def test_it_keeps_away_from_what_diverged_however_good_it_was_before() -> None:
    """Runs at a high rate fall fast and then diverge: their figure must not draw the search there."""
    search, rates = Search(read_grid(["story-1m", "optim.lr=0.01..0.09"]), 40, {}), []
    while (point := search.ask()) is not None:
        rates.append(rate := point.config.optim.lr)
        search.tell(point, Outcome("diverged", 0.5) if rate > 0.05 else Outcome("finished", 1.0 + abs(rate - 0.03)))
    assert sum(rate > 0.05 for rate in rates[-15:]) <= 3  # 15 of 30 would be by chance
    for outcome in (Outcome("failed", None), Outcome("diverged", None), Outcome("finished", float("nan"))):
        assert not outcome.counts


def test_no_settings_are_run_twice_and_a_space_that_is_used_up_ends_it() -> None:
    words = ["story-1m", "model.layers=2..4", "optim.optimizer=adamw,muon"]
    search = Search(read_grid(words), 50, {})
    assert search.total == 6
    record = drawn(search)
    assert len(record) == len({tuple(entry["settings"]) for entry in record.values()}) == 6
    again = Search(read_grid(words), 50, record)
    assert again.total == 6
    assert list(drawn(again)) == list(record)


def test_runs_at_a_time_are_not_the_same_run() -> None:
    search = Search(read_grid(["story-1m", "model.layers=2..5"]), 9, {}, jobs=4)
    points = [search.ask() for _ in range(4)]
    assert {point.config.model.layers for point in points} == {2, 3, 4, 5}
    assert search.ask() is None
    for point in points:
        search.tell(point, Outcome("finished", 1.0))


def test_a_whole_number_is_drawn_where_the_setting_is_one_and_only_there() -> None:
    for entry in drawn(Search(read_grid(["story-1m", "train.steps=1e1..1e3"]), 9, {})).values():
        assert 10 <= int(entry["varied"]["train.steps"]) <= 1000
    epochs = [
        float(entry["varied"]["train.epochs"])
        for entry in drawn(Search(read_grid(["story-1m", "train.epochs=1..3"]), 9, {})).values()
    ]
    assert not all(epoch.is_integer() for epoch in epochs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["story-1m", "story-5m", "optim.lr=1e-3,1e-2"], "over one preset"),
        (["story-1m", "optim.lr=1e-3"], "settings to choose"),
        (["story-1m", "optim.lr=1e-2..1e-3"], "from the smaller to the larger"),
        (["story-1m", "optim.lr=1..x"], r"optim\.lr=1\.\.x is no range: it is LOW\.\.HIGH"),
        (["story-1m", "optim.lr=1..inf"], "from the smaller to the larger"),
        (["story-1m", "optim.lrr=1,2"], "did you mean 'optim.lr'"),
        (["story-9m", "optim.lr=1e-3,1e-2"], "story-9m"),
        (["story-1m", "model.heads=1,many"], r"model\.heads=many cannot be used"),
        (["story-1m", "model.heads=0..4"], r"model\.heads=0 cannot be used"),
        (["story-1m", "model.heads=1.5..4"], "is a whole number"),
        (["story-1m", "model.tied=0..4"], "settings that are numbers"),
        (["story-1m", "optim.lr=1e-3,1e-2", "model.heads=few"], r"model\.heads=few cannot be used"),
    ],
)
def test_searches_that_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Search(read_grid(words), 3, {})

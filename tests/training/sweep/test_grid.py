"""The points of a sweep: every combination, by names that a folder can have."""

from pathlib import Path

import pytest

from storylm.config.errors import UsageError
from storylm.training.sweep.grid import LONGEST_NAME, read_grid, split_values


def test_every_combination_in_order() -> None:
    grid = read_grid(["story-1m", "story-5m", "optim.lr=1e-3,3e-3", "train.minutes=1", "train.seed=1,2"])
    found = grid.points()
    assert len(found) == 8
    assert [point.name for point in found[:3]] == [
        "story-1m,lr=1e-3,seed=1",
        "story-1m,lr=1e-3,seed=2",
        "story-1m,lr=3e-3,seed=1",
    ]
    assert dict(found[-1].varied) == {"preset": "story-5m", "optim.lr": "3e-3", "train.seed": "2"}
    config = found[-1].config
    assert (config.name, config.optim.lr, config.train.seed, config.train.minutes) == ("story-5m", 3e-3, 2, 1)
    assert config.train.judge_all is False
    assert read_grid(["story-1m", "train.judge_all=true"]).points()[0].config.train.judge_all is True


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("a, b,", ["a", "b"]),
        ("[null,256],[null]", ["[null,256]", "[null]"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("grammar?stories=10&validation=2,x", ["grammar?stories=10&validation=2", "x"]),
        ("", []),
    ],
)
def test_values_stand_between_commas(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_a_file_says_it_too_and_the_command_line_goes_over_it(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "presets: [story-1m]\nsettings:\n  optim.lr: [1e-3, 3e-3]\n  model.windows: [[null, 256], [null]]\n"
    )
    grid = read_grid([], file)
    assert [point.config.model.windows for point in grid.points()] == [(None, 256), (None,)] * 2
    assert grid.points()[0].config.optim.lr == 1e-3
    over = read_grid(["story-5m", "optim.lr=5e-3"], file)
    assert (over.presets, over.values["optim.lr"]) == (("story-5m",), ["5e-3"])


@pytest.mark.parametrize(
    "content", ["[1]", "presets: [story-1m]\nother: 1", "settings: [1]", "{", "presets: [a]\npresets: [b]"]
)
def test_files_that_are_no_sweep(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"sweep\.yaml"):
        read_grid(["story-1m"], tmp_path / "sweep.yaml")


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="say what to train"):
        read_grid(["optim.lr=1e-3"])
    with pytest.raises(UsageError, match=r"optim\.lr has no values"):
        read_grid(["story-1m", "optim.lr="])


def test_names_are_folders_whatever_the_values() -> None:
    grid = read_grid(["story-1m", f"data.source=a/b,a?b,{'x' * 200},{'x' * 201}"])
    names = [point.name for point in grid.points()]
    assert len(set(names)) == 4
    assert all("/" not in name and "?" not in name and len(name) <= LONGEST_NAME for name in names)
    (alone,) = read_grid(["story-1m", "data.source=a/b"]).points()
    assert alone.name == "story-1m"

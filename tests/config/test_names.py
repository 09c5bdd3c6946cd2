"""Short names tell apart what they name."""

import pytest

from storylm.config.names import short_names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["/a/b/runs/first"], ["first"]),
        (["runs/a/best", "runs/b/best", "x"], ["a/best", "b/best", "x"]),
        (["someone/model", "C:\\runs\\mine\\"], ["model", "mine"]),
        (["a", "b/a"], ["a", "b/a"]),
        (["same", "same"], ["same", "same"]),
        ([], []),
    ],
)
def test_names_are_as_short_as_tells_them_apart(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short

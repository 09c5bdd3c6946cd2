"""The line of a run: everything where there is room, what matters most where there is little."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.training.live_line import BARS, DISPENSABLE, fitted, parts_of, sparkline
from training.told import step_record

LOSSES = [2 + 9 / (step + 3) for step in range(24)]
PARTS = parts_of(step_record(1200, steps=5000, progress=0.24, loss=1.8324, lr=9.8e-4, skipped=2), 0.7314, 192.0)


def bars(count: int) -> str:
    return sparkline(LOSSES[-count:])


def test_all_parts_in_order() -> None:
    assert " | ".join(PARTS.values()) == (
        "step 1,200/5,000 24% | loss 1.832 | validation 0.731 bpb | lr 9.8e-04 | 41.2k tok/s | 31% peak | 1.2 GB | "
        "2 skipped | 3:12 left"
    )


def test_what_is_not_known_is_not_said() -> None:
    record = step_record(7, share_of_peak=None, memory_bytes=None)
    assert list(parts_of(record, None, None)) == ["step", "loss", "lr", "speed"]


@pytest.mark.parametrize(("share", "shown"), [(0.3141, "31%"), (0.0995, "10%"), (0.0123, "1.2%"), (1.07, "107%")])
def test_small_shares_of_the_peak_have_a_decimal(share, shown) -> None:
    assert parts_of(step_record(1, share_of_peak=share), None, None)["peak"] == f"{shown} peak"


def test_a_hundred_and_eighty_columns_are_enough_for_all() -> None:
    line = fitted(PARTS, LOSSES, 180)
    assert line == " · ".join(PARTS.values()).replace("loss 1.832", f"loss 1.832 {bars(24)}")


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            100,
            f"step 1,200/5,000 24% · loss 1.832 {bars(8)} · 41.2k tok/s · 31% peak · 1.2 GB · 2 skipped · 3:12 left",
        ),
        (80, "step 1,200/5,000 · loss 1.832 · 41.2k tok/s · 31% peak · 2 skipped · 3:12 left"),
        (60, "step 1,200/5,000 · loss 1.832 · 41.2k tok/s · 3:12 left"),
    ],
)
def test_narrow_lines_keep_what_matters_most(width, line) -> None:
    assert fitted(PARTS, LOSSES, width) == line


def test_the_usual_line_has_its_bars_and_share_of_the_peak_in_80_columns_and_memory_too_in_100() -> None:
    parts = parts_of(step_record(1200, steps=5000, progress=0.24), 0.73, 192.0)
    assert fitted(parts, LOSSES, 80) == (
        f"step 1,200/5,000 · loss 2.500 {bars(13)} · 41.2k tok/s · 31% peak · 3:12 left"
    )
    assert fitted(parts, LOSSES, 100) == (
        f"step 1,200/5,000 24% · loss 2.500 {bars(20)} · 41.2k tok/s · 31% peak · 1.2 GB · 3:12 left"
    )


@given(st.integers(20, 200), st.integers(0, 24), st.booleans(), st.booleans(), st.none() | st.floats(0, 1e6))
def test_a_line_never_exceeds_its_width_where_parts_can_be_spared(width, losses, unicode, skipped, left) -> None:
    parts = parts_of(step_record(120, skipped=1000 * skipped), 0.7, left)
    line = fitted(parts, LOSSES[:losses], width, unicode)
    kept = [name for name, text in parts.items() if name not in DISPENSABLE and name != "step"]
    assert all(parts[name] in line for name in kept)
    assert line.startswith("step 120/1,000")
    least = fitted(parts, [], 0, unicode)
    assert len(line) <= max(width, len(least))
    assert unicode or line.isascii()


HUNDREDTHS = st.integers(-(10**6), 10**6).map(lambda number: number / 100)


@given(st.lists(HUNDREDTHS | st.just(math.nan) | st.just(math.inf), max_size=30))
def test_bars_are_as_high_as_the_values(values) -> None:
    finite = [value for value in values if math.isfinite(value)]
    bars = [BARS.index(bar) for bar in sparkline(values)]
    assert len(bars) == len(finite)
    assert sorted(bars) == [bar for _, bar in sorted(zip(finite, bars, strict=True))]
    if len(set(finite)) > 1:
        assert (min(bars), max(bars)) == (0, len(BARS) - 1)


def test_bars_by_example() -> None:
    assert sparkline([8.0, 4.0, 2.0, 1.0]) == "█▄▂▁"
    assert sparkline([3.0, math.nan, 3.0]) == "▁▁"
    assert sparkline([]) == ""

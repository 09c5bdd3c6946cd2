"""The line that says how a run goes: what stands in it, and what is left out first where it is too long."""

import math
from collections.abc import Sequence

from storylm.training.records import StepRecord

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS, FEWEST_BARS = 24, 6
# Left out in this order. The last validation also stands above the line, and the time left says what per cent do.
DISPENSABLE = ("lr", "validation", "percent", "memory", "bars", "peak", "skipped")


def parts_of(record: StepRecord, validation: float | None, seconds_left: float | None) -> dict[str, str]:
    """The parts of the line by name, in order. `validation` in bits per byte; None: not known yet.

    >>> parts = parts_of(record, None, 192)                                     # doctest: +SKIP
    >>> " | ".join(parts.values())                                              # doctest: +SKIP
    'step 1,200/5,000 24% | loss 1.832 | lr 9.8e-04 | 41.2k tok/s | 31% peak | 1.2 GB | 3:12 left'
    """
    of = "" if record.steps is None else f"/{record.steps:,}"
    parts = {"step": f"step {record.step:,}{of} {record.progress:.0%}", "loss": f"loss {record.loss:.3f}"}
    if validation is not None:
        parts["validation"] = f"validation {validation:.3f} bpb"
    parts["lr"] = f"lr {record.lr:.1e}"
    parts["speed"] = f"{_short(record.tokens_per_second)} tok/s"
    if record.share_of_peak is not None:
        parts["peak"] = f"{_percent(record.share_of_peak)} peak"
    if record.memory_bytes is not None:
        parts["memory"] = f"{record.memory_bytes / 1e9:.1f} GB"
    if record.skipped:
        parts["skipped"] = f"{record.skipped:,} skipped"
    if seconds_left is not None:
        parts["left"] = f"{_clock(seconds_left)} left"
    return parts


def fitted(parts: dict[str, str], losses: Sequence[float], width: int, unicode: bool = True) -> str:
    """The line in at most `width` columns where that can be, with as many of the newest `losses` as bars as fit.

    What can be spared least is never left out: the steps, the loss, the speed and the time left.
    """
    parts, separator = dict(parts), " · " if unicode else " | "
    bars = min(FEWEST_BARS, len(losses)) if unicode else 0

    def room() -> int:
        return width - len(separator.join(parts.values())) - 1  # a space stands before the bars

    for name in DISPENSABLE:
        if room() >= bars:
            break
        if name == "percent":
            parts["step"] = parts["step"].rpartition(" ")[0]
        elif name == "bars":
            bars = 0
        else:
            parts.pop(name, None)
    if bars:
        shown = min(room(), MOST_BARS, len(losses))
        parts["loss"] += f" {sparkline(losses[-shown:])}"
    return separator.join(parts.values())


def sparkline(values: Sequence[float]) -> str:
    """Bars as high as the values, from the lowest to the highest of them.

    >>> sparkline([8.0, 4.0, 2.0, 1.0])
    '█▄▂▁'
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BARS) - 1) / ((high - low) or 1.0)
    return "".join(BARS[round((value - low) * scale)] for value in finite)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"


def _short(number: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"

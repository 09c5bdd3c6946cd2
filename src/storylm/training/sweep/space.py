"""What a search may draw for a setting: one of several values, or a number of a range."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storylm.config.errors import UsageError
from storylm.config.keys import takes
from storylm.config.load import check_value
from storylm.training.sweep.grid import is_range

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Space = Mapping[str, "BaseDistribution"]


def space_of(values: Mapping[str, Sequence[str]]) -> dict[str, "BaseDistribution"]:
    """Every setting that has more than one value to draw, with those; LOW..HIGH is a range.

    Raises:
        UsageError: a setting that there is not, or a value or end of a range that it may never have.
    """
    found = {key: _drawn(key, list(dict.fromkeys(of))) for key, of in values.items()}
    return {key: space for key, space in found.items() if space is not None}


def choices(space: "BaseDistribution") -> Sequence[Any] | None:
    """All that may be drawn; None where that is any number of a range."""
    from optuna import distributions

    if isinstance(space, distributions.CategoricalDistribution):
        return space.choices
    return range(space.low, space.high + 1) if isinstance(space, distributions.IntDistribution) else None


def read(space: "BaseDistribution", text: str) -> Any:
    """A value as Optuna has it. Raises `ValueError` where it could not have been drawn."""
    of, value = choices(space), text
    if of is None:
        value = float(text)
        if not space.low <= value <= space.high:  # type: ignore[attr-defined]  # a range of floats
            raise ValueError(text)
    elif isinstance(of, range):
        value = int(text)
    if of is not None and value not in of:
        raise ValueError(text)
    return value


def shown(value: Any) -> str:
    """A value as text, with as many digits as make the same number again."""
    return repr(value) if isinstance(value, float) else str(value)


def _drawn(key: str, values: Sequence[str]) -> "BaseDistribution | None":
    from optuna import distributions

    if len(values) == 1 and is_range(key, values[0]):
        return _range(key, values[0])
    for value in values:
        check_value(f"{key}={value}")
    return distributions.CategoricalDistribution(list(values)) if len(values) > 1 else None


def _range(key: str, value: str) -> "BaseDistribution":
    """Whole numbers where the setting is one; on a logarithmic scale where HIGH is ten times LOW."""
    from optuna import distributions

    try:
        low, high = (float(end) for end in value.split(".."))
    except ValueError:
        raise UsageError(
            f"{key}={value} is no range: it is LOW..HIGH, two numbers, as in optim.lr=1e-4..1e-2"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"{key}={value}: a range goes from the smaller to the larger number")
    log = low > 0 and high / low >= 10
    if takes(key, float):
        check_value(f"{key}={low!r}")
        check_value(f"{key}={high!r}")
        return distributions.FloatDistribution(low, high, log=log)
    if not takes(key, int):
        raise UsageError(
            f"{key}={value}: a range is for settings that are numbers; name the values, with commas between"
        )
    if not (low.is_integer() and high.is_integer()):
        raise UsageError(f"{key}={value}: {key} is a whole number, and so are the ends of its range")
    check_value(f"{key}={low:.0f}")
    check_value(f"{key}={high:.0f}")
    return distributions.IntDistribution(int(low), int(high), log=log)

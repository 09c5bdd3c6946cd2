"""A search over settings by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), as a source of points.

Optuna keeps nothing: what has been tried is told it anew from the sweep's own record, so a search goes on as any sweep.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from storylm.config.errors import SetupError, UsageError
from storylm.training.sweep.grid import Grid, Point
from storylm.training.sweep.runner import Outcome

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RANGE = re.compile(r"([-+.\deE]+)\.\.([-+.\deE]+)")
WORST = 1e3  # bits per byte, for a run that diverged or failed: a search must learn to keep away


class Search:
    """`trials` points of `grid`: a setting of several values is one of them, one of LOW..HIGH a number between (on a
    logarithmic scale where HIGH is ten times LOW), one of one value is that.

    `tried` is the record of a sweep. What it has of this search, with the same other settings, is told to Optuna or,
    where it is not done, run first.

    >>> search = Search(read_grid(["story-1m", "optim.lr=1e-4..1e-2"]), trials=20, tried={})  # doctest: +SKIP

    Raises:
        SetupError: there is no Optuna.
        UsageError: several presets, or nothing to search.
    """

    def __init__(self, grid: Grid, trials: int, tried: Mapping[str, Mapping[str, Any]], seed: int = 0):
        try:
            import optuna
        except ImportError as error:
            raise SetupError("a search needs Optuna: pip install 'storylm[search]'") from error

        self._space = {key: space for key, of in grid.values.items() if (space := _space(key, of)) is not None}
        if len(grid.presets) != 1 or not self._space:
            raise UsageError(
                "a search is over one preset and settings to choose, as in optim.lr=1e-4..1e-2 or model.layers=2,4,8"
            )
        self._fixed = {key: of[0] for key, of in grid.values.items() if key not in self._space}
        # What is searched varies, whatever its values: two make a grid say so.
        self._grid = Grid(
            grid.presets, {**{key: [of] for key, of in self._fixed.items()}, **{key: ["", ""] for key in self._space}}
        )
        self._names = set(tried)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        earlier = {name: entry for name, entry in tried.items() if self._is_ours(entry)}
        # Seeded by what is known too: a search that goes on does not draw again what it drew first.
        self._study = optuna.create_study(
            direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed + len(earlier))
        )
        self._running: dict[str, Any] = {}
        self._left = [self._point(_settings(entry), name) for name, entry in earlier.items()]
        self._new = max(0, trials - len(earlier))
        self.total = len(earlier) + self._new

    def ask(self) -> Point | None:
        if self._left:
            point = self._left.pop(0)
            self._study.enqueue_trial(self._numbers(_settings({"settings": point.overrides})))
            self._running[point.name] = self._study.ask(self._space)
            return point
        if not self._new:
            return None
        self._new -= 1
        trial = self._study.ask(self._space)
        name = next(name for number in count(1) if (name := f"trial-{number:03d}") not in self._names)
        self._names.add(name)
        self._running[name] = trial
        return self._point({key: _shown(value) for key, value in trial.params.items()}, name)

    def tell(self, point: Point, outcome: Outcome) -> None:
        self._study.tell(self._running.pop(point.name), WORST if outcome.figure is None else outcome.figure)

    def _point(self, settings: Mapping[str, str], name: str) -> Point:
        return self._grid.point(
            self._grid.presets[0], {**self._fixed, **{key: settings[key] for key in self._space}}, name
        )

    def _is_ours(self, entry: Mapping[str, Any]) -> bool:
        """Whether a run of the record differs from those to come in nothing but what is searched."""
        settings = _settings(entry)
        same = settings.keys() == self._grid.values.keys() and self._fixed.items() <= settings.items()
        return same and entry["preset"] == self._grid.presets[0] and self._fits(settings)

    def _fits(self, settings: Mapping[str, str]) -> bool:
        """Whether what is searched could have been drawn."""
        try:
            numbers = self._numbers(settings)
        except ValueError:
            return False
        return all(_may_be(self._space[key], number) for key, number in numbers.items())

    def _numbers(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """As Optuna has them."""
        kinds = {"IntDistribution": int, "FloatDistribution": float}
        return {key: kinds.get(type(space).__name__, str)(settings[key]) for key, space in self._space.items()}


def _settings(entry: Mapping[str, Any]) -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in entry["settings"])


def _space(key: str, values: Sequence[str]) -> "BaseDistribution | None":
    """What may be drawn for a setting; None where it has one value."""
    from optuna import distributions

    if len(values) > 1:
        return distributions.CategoricalDistribution(list(values))
    match = RANGE.fullmatch(values[0])
    if match is None:
        return None
    try:
        low, high = float(match[1]), float(match[2])
    except ValueError:
        return None
    if low >= high:
        raise UsageError(f"{key}={values[0]}: a range goes from the smaller to the larger number")
    whole = match[1].lstrip("-").isdigit() and match[2].lstrip("-").isdigit()
    log = low > 0 and high / low >= 10
    if whole:
        return distributions.IntDistribution(int(low), int(high), log=log)
    return distributions.FloatDistribution(low, high, log=log)


def _may_be(space: Any, value: Any) -> bool:
    return value in space.choices if hasattr(space, "choices") else space.low <= value <= space.high


def _shown(value: Any) -> str:
    """With as many digits as make the same number again."""
    return repr(value) if isinstance(value, float) else str(value)

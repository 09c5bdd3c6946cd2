"""A search over settings by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), as a source of points.

Optuna keeps nothing: what has been tried is told it anew from the sweep's own record, so a search goes on as any sweep.
"""

import math
import warnings
from collections.abc import Mapping
from itertools import count, product
from typing import TYPE_CHECKING, Any

from storylm.config.errors import SetupError, UsageError
from storylm.config.load import resolve
from storylm.training.sweep.grid import Grid, Point, check_stories
from storylm.training.sweep.outcome import Outcome
from storylm.training.sweep.space import choices, read, shown, space_of

if TYPE_CHECKING:
    from optuna import Trial

WORST = 1e3  # bits per byte, for a run that diverged or failed: a search must learn to keep away
_DRAWS = 100  # of what has been tried before, until what has not is taken instead of drawn


class Search:
    """`trials` points of `grid`, no two alike: a setting of several values is one of them, one of LOW..HIGH a number
    between (on a logarithmic scale where HIGH is ten times LOW), one of one value is that.

    `tried` is the record of a sweep. What it has of this search, with the same other settings, is told to Optuna or,
    where it is not done, run first. `jobs` is how many points are run at a time.

    >>> search = Search(read_grid(["story-1m", "optim.lr=1e-4..1e-2"]), trials=20, tried={})  # doctest: +SKIP

    Raises:
        SetupError: there is no Optuna.
        UsageError: several presets, nothing to search, or what no run could be.
        DataError: stories that there are not.
    """

    def __init__(self, grid: Grid, trials: int, tried: Mapping[str, Mapping[str, Any]], seed: int = 0, jobs: int = 1):
        try:
            import optuna
        except ImportError as error:
            raise SetupError("a search needs Optuna: pip install 'storylm[search]'") from error

        for preset in grid.presets:
            resolve(preset)  # raises
        check_stories(grid.values)
        self._space = space_of(grid.values)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the liar, who keeps jobs apart
            # Seeded by what is known too: a search that goes on does not draw again what it drew first.
            sampler = optuna.samplers.TPESampler(seed=seed + len(earlier), constant_liar=jobs > 1)
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._running: dict[str, Trial] = {}
        self._figures: dict[tuple[str, ...], float | None] = {}  # by the values searched; None: not known yet
        self._left = [self._point(_settings(entry), name) for name, entry in earlier.items()]
        finite = [of for space in self._space.values() if (of := choices(space)) is not None]
        self._all = finite if len(finite) == len(self._space) else None
        most = trials if self._all is None else min(trials, math.prod(map(len, self._all)))
        self._new = max(0, most - len({self._values(point) for point in self._left}))
        self.total = len(earlier) + self._new

    def ask(self) -> Point | None:
        if self._left:
            point = self._left.pop(0)
            self._enqueue(self._values(point))
            return self._begin(point, self._study.ask(self._space))
        if not self._new:
            return None
        self._new -= 1
        trial = self._another()
        name = next(name for number in count(1) if (name := f"trial-{number:03d}") not in self._names)
        self._names.add(name)
        return self._begin(self._point({key: shown(trial.params[key]) for key in self._space}, name), trial)

    def tell(self, point: Point, outcome: Outcome) -> None:
        figure = outcome.figure if outcome.counts else None
        self._figures[self._values(point)] = told = WORST if figure is None else figure
        self._study.tell(self._running.pop(point.name), told)

    def _another(self) -> "Trial":
        """A draw of what has not been tried; of what has, Optuna is told what is known."""
        from optuna.trial import TrialState

        for _ in range(_DRAWS):
            trial = self._study.ask(self._space)
            drawn = tuple(shown(trial.params[key]) for key in self._space)
            if drawn not in self._figures:
                return trial
            figure = self._figures[drawn]
            self._study.tell(trial, figure, TrialState.FAIL if figure is None else None)
        if self._all is not None:
            self._enqueue(
                next(of for each in product(*self._all) if (of := tuple(map(shown, each))) not in self._figures)
            )
        return self._study.ask(self._space)

    def _begin(self, point: Point, trial: "Trial") -> Point:
        self._running[point.name] = trial
        self._figures.setdefault(self._values(point), None)
        return point

    def _enqueue(self, values: tuple[str, ...]) -> None:
        self._study.enqueue_trial(
            {key: read(space, text) for (key, space), text in zip(self._space.items(), values, strict=True)}
        )

    def _point(self, settings: Mapping[str, str], name: str) -> Point:
        return self._grid.point(
            self._grid.presets[0], {**self._fixed, **{key: settings[key] for key in self._space}}, name
        )

    def _values(self, point: Point) -> tuple[str, ...]:
        varied = dict(point.varied)
        return tuple(shown(read(space, varied[key])) for key, space in self._space.items())

    def _is_ours(self, entry: Mapping[str, Any]) -> bool:
        """Whether a run of the record differs from those to come in nothing but what is searched."""
        settings = _settings(entry)
        same = settings.keys() == self._grid.values.keys() and self._fixed.items() <= settings.items()
        return same and entry["preset"] == self._grid.presets[0] and self._fits(settings)

    def _fits(self, settings: Mapping[str, str]) -> bool:
        """Whether what is searched could have been drawn."""
        try:
            return all(read(space, settings[key]) is not None for key, space in self._space.items())
        except ValueError:
            return False


def _settings(entry: Mapping[str, Any]) -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in entry["settings"])

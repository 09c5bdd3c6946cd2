"""Which run is ahead: bits per byte in the end and after equal tokens, time and FLOPs; settings that differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storylm.report.runs import Run

AXES = ("tokens", "seconds", "FLOPs")
# What differs between any two runs and is no setting of theirs.
UNTOLD = ("name", "about")


@dataclass(frozen=True)
class Budget:
    """Runs at the most of `axis` that all of them have used: bits per byte by run, None where one has no figure."""

    axis: str
    amount: float
    figures: dict[str, float | None]

    @property
    def winner(self) -> str | None:
        known = {name: figure for name, figure in self.figures.items() if figure is not None}
        return min(known, key=lambda name: known[name]) if len(known) == len(self.figures) else None


def best_run(runs: Sequence[Run]) -> Run | None:
    """The run with the fewest bits per byte at its best; None where none was judged."""
    judged = [run for run in runs if run.best]
    return min(judged, key=lambda run: run.best["bits_per_byte"], default=None)  # type: ignore[index]


def budgets(runs: Sequence[Run]) -> list[Budget]:
    """The runs compared at equal tokens, time and arithmetic; nothing where there is one run, or none was judged."""
    if len(runs) < 2 or not all(run.passes for run in runs):
        return []
    found = []
    for axis in AXES:
        amount = min(run.along(axis)(run.passes[-1]) for run in runs)
        found.append(Budget(axis, amount, {run.name: figure_at(run, axis, amount) for run in runs}))
    return found


def figure_at(run: Run, axis: str, amount: float) -> float | None:
    """Bits per byte after `amount`, on the line between the evaluations before and after it.

    None where there is none before or after, or one of the two found no figure: a run that diverged has none to show.
    """
    of = run.along(axis)
    points = [(of(row), row.get("bits_per_byte")) for row in run.passes]
    before = [point for point in points if point[0] <= amount][-1:]
    after = [point for point in points if point[0] >= amount][:1]
    if not before or not after:
        return None
    (x0, y0), (x1, y1) = *before, *after
    return None if y0 is None or y1 is None else float(np.interp(amount, (x0, x1), (y0, y1)))


def verdict(runs: Sequence[Run]) -> str:
    """Which run is best, by how much, in what it differs, and whether it leads at equal budgets; some sentences."""
    best = best_run(runs)
    if best is None or best.best is None:
        return "No run has been judged by validation stories yet."
    figure = best.best["bits_per_byte"]
    if len(runs) == 1:
        state = f"{best.ended}" if best.ended else "not finished"
        return f"{figure:.4f} bits per byte at its best, at step {best.best['step']:,}; {state}."
    others = [run for run in runs if run is not best and run.best]
    second = min((run.best["bits_per_byte"], run.name) for run in others) if others else None  # type: ignore[index]
    by = f", {second[0] - figure:.4f} fewer than {second[1]}" if second else ""
    first = f"{best.name} is best: {figure:.4f} bits per byte{by}."
    compared = [budget for budget in budgets(runs) if budget.winner]
    same = [_words(budget) for budget in compared if budget.winner == best.name]
    what = [] if second is None else [_difference(best, next(run for run in runs if run.name == second[1]))]
    other = [f"{budget.winner} leads after {_words(budget)}" for budget in compared if budget.winner != best.name]
    also = [f"It leads after {_listed(same)}, too."] if same else []
    return " ".join([first, *what, *also, *([f"But {_listed(other)}."] if other else [])])


def _difference(best: Run, second: Run) -> str:
    """The first settings in which they differ; whether these are the cause, two runs do not tell."""
    changed = [f"{name} ({mine}, not {other})" for name, (mine, other) in differing([best, second]).items()]
    if not changed:
        return "Their settings are the same."
    more = [f"{len(changed) - 3} settings more"] if len(changed) > 3 else []
    return f"It differs in {_listed([*changed[:3], *more])}."


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs: by name, a value for each run."""
    all_of_them = [run.settings for run in runs]
    names = [name for name in all_of_them[0] if name not in UNTOLD]
    rows = {name: [settings.get(name) for settings in all_of_them] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def judged_alike(runs: Sequence[Run]) -> bool:
    """Whether all runs were judged by the same stories, as far as is known: prepared stories, and how many of them."""
    return len({judged_by(run)[0] for run in runs} - {None}) <= 1 and len({judged_by(run)[1] for run in runs}) == 1


def judged_by(run: Run) -> tuple[str | None, int | None]:
    """The prepared stories that a run was judged by, by hash, and how many of them; None: not known, and all."""
    return (run.sessions[-1].get("data") if run.sessions else None), run.config.train.eval_stories


def _words(budget: Budget) -> str:
    return {"tokens": "as many tokens", "seconds": "as much time", "FLOPs": "as many FLOPs"}[budget.axis]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

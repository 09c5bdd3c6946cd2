"""How a run of a sweep ended, and where its folder says that it stands."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD = ("finished", "no gain")
DONE = (*GOOD, "diverged")


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended: "finished", "no gain", "diverged" or "failed". `figure`: its fewest bits per byte on
    validation; `why`: the last line of its log where it failed."""

    ended: str
    figure: float | None
    why: str = ""

    def __str__(self) -> str:
        figure = "" if self.figure is None else f", {self.figure:.4f} bits per byte"
        return f"{self.ended}{figure}{f' ({self.why})' if self.why else ''}"

    @property
    def counts(self) -> bool:
        """Whether its figure is one to compare with: one from before a run diverged is not."""
        return self.ended in GOOD and self.figure is not None and math.isfinite(self.figure)


def told(outcome: Outcome, state: dict[str, Any]) -> dict[str, Any]:
    """An outcome for the record, with how far the run came."""
    spent = {"steps": state.get("step"), "tokens": state.get("tokens"), "seconds": state.get("seconds")}
    return {"ended": outcome.ended, "bits_per_byte": outcome.figure, "why": outcome.why, **spent}


def state_of(run: Path) -> dict[str, Any]:
    """Where the newest checkpoint of a run says that it stands; nothing where there is none."""
    try:
        text = (run / "checkpoints" / "last" / "trainer_state.json").read_text(encoding="utf-8")
        return json.loads(text)["values"]["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def figure_of(state: dict[str, Any]) -> float | None:
    from storylm.evaluation.likelihood import Likelihood

    return Likelihood(**state["best_pass"]).bits_per_byte if state.get("best_pass") else None

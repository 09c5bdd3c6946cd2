"""The numbers of a run: where it stands."""

from dataclasses import dataclass
from typing import Any


@dataclass
class State:
    """Everything here is saved, so that a resumed run logs what it would have logged."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    lead: float = 0.0  # of them, until the first step was made; 0 where steps are counted
    skipped: int = 0
    bad_in_a_row: int = 0
    without_gain: int = 0
    factor: float = 0.0  # of the learning rates, in the last step
    evaluated_at: int | None = None
    looked_at: int | None = None  # the last step at which all that was due besides the update was done
    best_pass: dict[str, Any] | None = None  # the `Likelihood` of the best pass over validation
    ended: str | None = None  # "finished" or "no gain", once the run is over
    window_nats: float = 0.0  # since the last line of metrics.jsonl
    window_tokens: int = 0
    window_norm: float = 0.0

    def count(self, nats: float, tokens: int, norm: float, applied: bool) -> None:
        """What an update did; one that was not applied counts as skipped."""
        if applied:
            self.bad_in_a_row = 0
            self.window_nats += nats
            self.window_tokens += tokens
            self.window_norm = norm
        else:
            self.skipped += 1
            self.bad_in_a_row += 1

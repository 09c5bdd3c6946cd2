"""`Measure`: one figure with all that is needed to read it. Everything that judges gives a list of them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

Interval = tuple[float, float]
Direction = Literal["higher", "lower", "reference"]
"""Which values are better; "reference": those near the figure of real stories."""


@dataclass(frozen=True)
class Measure:
    """A figure by name. What cannot be said is None: the interval of a figure that is no mean over stories, say.

    `interval` holds 95 %; `reference` is the same figure of real validation stories, as many and as long; for a
    prompt suite, of chance.
    """

    name: str
    value: float | None
    direction: Direction
    interval: Interval | None = None
    reference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON's types; what is no number is null."""
        return {
            "name": self.name,
            "value": _number(self.value),
            "interval": None if self.interval is None else [_number(end) for end in self.interval],
            "direction": self.direction,
            "reference": _number(self.reference),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Measure":
        """What `to_json` made."""
        ends = [math.nan if end is None else float(end) for end in row["interval"] or ()]
        interval = (ends[0], ends[1]) if ends else None
        return cls(row["name"], row["value"], row["direction"], interval, row["reference"])


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)

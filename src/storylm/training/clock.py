"""How far a run is: by its steps, or by the clock on the wall."""

import time
from dataclasses import dataclass, field


@dataclass
class StepClock:
    """A run of so many steps."""

    steps: int

    def progress(self, step: int) -> float:
        """The share of the run done when update number `step` (from 0) begins; 1 or more: it is over."""
        return step / self.steps

    def observe(self, seconds_per_step: float, reserve: float) -> None:
        """Steps do not care how long they take."""


@dataclass
class MinuteClock:
    """A run that ends on time: the last step, the last evaluation and saving all fit into `minutes`.

    `before` are the seconds that an interrupted run had used. What the end will take (`reserve`) becomes
    known as the run goes, so the share done is an estimate that gets better.
    """

    minutes: float
    before: float = 0.0
    reserve: float = 0.0
    seconds_per_step: float = 0.0
    started: float = field(default_factory=lambda: time.monotonic())  # looked up when called

    def progress(self, step: int) -> float:
        """As of `StepClock`; 1 as soon as another step would not end in time."""
        elapsed = self.before + time.monotonic() - self.started
        budget = max(self.minutes * 60.0 - self.reserve, 1e-9)
        if step > 0 and elapsed + self.seconds_per_step > budget:
            return 1.0
        return elapsed / budget

    def observe(self, seconds_per_step: float, reserve: float) -> None:
        """Note how long a step takes now, and the evaluation and saving at the end (seconds)."""
        self.seconds_per_step, self.reserve = seconds_per_step, reserve


Clock = StepClock | MinuteClock

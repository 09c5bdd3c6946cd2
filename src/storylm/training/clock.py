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
    known as the run goes, so the share done is an estimate that gets better. It is counted from the end of the first
    step (`lead` seconds after the start): compiling, which that step waits for, would use up a schedule's warm-up.
    """

    minutes: float
    before: float = 0.0
    lead: float = 0.0
    reserve: float = 0.0
    seconds_per_step: float = 0.0
    started: float = field(default_factory=lambda: time.monotonic())  # looked up when called

    def progress(self, step: int) -> float:
        """As of `StepClock`; 1 as soon as another step would not end in time."""
        elapsed = self.elapsed()
        budget = max(self.minutes * 60.0 - self.reserve, 1e-9)
        if elapsed + (self.seconds_per_step if step > 0 else 0.0) > budget:
            return 1.0
        if step <= 1:
            self.lead = elapsed
        return (elapsed - self.lead) / max(budget - self.lead, 1e-9)

    def elapsed(self) -> float:
        """Seconds used, those before an interruption with them."""
        return self.before + time.monotonic() - self.started

    def observe(self, seconds_per_step: float, reserve: float) -> None:
        """Note how long a step takes now, and the evaluation and saving at the end (seconds)."""
        self.seconds_per_step, self.reserve = seconds_per_step, reserve


Clock = StepClock | MinuteClock

"""One turn of a contender: what it is told, and how it is timed."""

import json
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

FLAGS = ("fp32", "bf16", "eager", "compile", "liger")


@dataclass(frozen=True)
class Turn:
    """What a contender's process is told. All of it is the same for every contender but its name and folder.

    A contender's name is its kind and then its flags: "plain" (fp32, not compiled), "trainer-bf16-compile".
    "storylm" without flags decides for itself, as it does for its users.
    """

    contender: str
    preset: str
    overrides: tuple[str, ...]  # of the preset's settings: batch, context, data and the like
    tokens: str  # a file of nothing but token ids, one after another
    folder: str  # to work in
    device: str = "cpu"
    lap_steps: int = 1  # between two looks at the clock
    warmup_laps: int = 2
    laps: int = 3  # at least so many are timed
    seconds: float = 5.0  # and at least for so long
    nanogpt: str | None = None  # a checkout

    @property
    def kind(self) -> str:
        """Which program: a key of `child.KINDS`."""
        return self.contender.partition("-")[0]

    @property
    def flags(self) -> frozenset[str]:
        """Those of `FLAGS` that the name has. Raises `ValueError` for any other."""
        flags = frozenset(self.contender.split("-")[1:])
        if unknown := flags - set(FLAGS):
            raise ValueError(
                f"contender {self.contender!r}: unknown flag {min(unknown)!r}; there are {', '.join(FLAGS)}"
            )
        return flags

    @classmethod
    def read(cls, path: Path) -> "Turn":
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "overrides": tuple(values["overrides"])})

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Finished(Exception):  # noqa: N818 (nothing went wrong)
    """The timed laps are done: this leaves the training loop, whoever's it is, before it evaluates or saves."""


@dataclass
class Laps:
    """Looks at the clock every `lap_steps` steps. `started`: when the process did, by `time.monotonic`."""

    turn: Turn
    started: float
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def lap(self, loss: float) -> None:
        """`lap_steps` steps are done, with this loss, in nats per token. Raises `Finished` after the last lap."""
        if self.turn.device != "cpu":
            import torch

            torch.cuda.synchronize()
        self.times.append(time.monotonic())
        self.losses.append(loss)
        if len(self.seconds) >= self.turn.laps and sum(self.seconds) >= self.turn.seconds:
            raise Finished

    @property
    def seconds(self) -> list[float]:
        """How long each timed lap took."""
        return [after - before for before, after in pairwise(self.times[self.turn.warmup_laps - 1 :])]

    @property
    def start_seconds(self) -> float:
        """What the start costs: imports, building, compiling; the steps themselves taken off."""
        warm = self.times[self.turn.warmup_laps - 1] - self.started
        return max(0.0, warm - self.turn.warmup_laps * median(self.seconds))

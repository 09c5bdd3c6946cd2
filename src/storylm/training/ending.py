"""What the end of a run takes, so that a run by the clock can set it aside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from storylm.training.timer import Timer

SLOW_DISK = 1e8  # bytes a second, until a checkpoint has been written


class Ending:
    """The last pass over validation, the samples and the checkpoint, in seconds: as measured, once each has been done.

    `stories` are judged at the end, of `tokens_per_story` tokens, `samples` told and `checkpoint` bytes written.
    """

    def __init__(self, timer: Timer, stories: int, tokens_per_story: float, samples: int, checkpoint: int):
        self._timer, self._stories, self._tokens_per_story = timer, stories, tokens_per_story
        self._seconds = {"sample": 0.5 * samples, "save": 0.3 + checkpoint / SLOW_DISK}

    @contextmanager
    def aside(self, what: str, times: int = 1) -> Iterator[None]:
        """Time that is not training's, for what the end will take too: so many times "story", "sample" or "save"."""
        began = time.monotonic()
        with self._timer.pause():
            yield
        self._seconds[what] = (time.monotonic() - began) / times

    def seconds(self, tokens_per_step: float) -> float:
        """By now's measurements.

        Until a pass has been timed, judging a story is taken to cost what learning from one does: too much
        on paper (there is no backward pass), about right uncompiled.
        """
        per_story = self._seconds.get("story")
        if per_story is None:
            per_story = self._timer.seconds_per_step / max(1.0, tokens_per_step) * self._tokens_per_story
        return self._seconds["sample"] + self._seconds["save"] + self._stories * per_story

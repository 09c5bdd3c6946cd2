"""What a person sees of a run: one live line in a terminal, a plain line now and then elsewhere."""

import math
from collections import deque
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text

from storylm.training.records import EvaluationRecord, Observer, StepRecord

PLAIN_SECONDS = 15.0  # between lines where output goes to a file or a pipe
BARS = "▁▂▃▄▅▆▇█"


class RunConsole(Console):
    """A console that falls silent where nobody reads any more, as after `storylm train ... | head`.

    Rich would end the program, and with it a run that may have cost days.
    """

    def on_broken_pipe(self) -> None:
        """Send what is still to come to nowhere."""
        with suppress(SystemExit):
            super().on_broken_pipe()


class ConsoleObserver(Observer):
    """Writes to standard output.

    step 1,200/5,000 24% | loss 1.832 | validation 0.731 bpb | lr 9.8e-04 | 41.2k tokens/s | 3:12 left
    """

    def __init__(self, console: Console | None = None):
        self.console = console or RunConsole(highlight=False)
        self._live: Live | None = None
        self._first: StepRecord | None = None
        self._newest: StepRecord | None = None
        self._printed: StepRecord | None = None
        self._validation: float | None = None
        self._losses: deque[float] = deque(maxlen=24)

    def after_step(self, record: StepRecord) -> None:
        """Renew the line."""
        self._first, self._newest = self._first or record, record
        self._losses.append(record.loss)
        if self.console.is_terminal:
            self._show(self._line(record))
        elif self._printed is None or record.seconds - self._printed.seconds >= PLAIN_SECONDS:
            self._print_plain(record)

    def after_evaluation(self, record: EvaluationRecord) -> None:
        """Print what validation gave; it stays on the screen."""
        self._validation = record.bits_per_byte
        best = ", the best so far" if record.best else ""
        self.message(
            f"step {record.step:,}: validation {record.bits_per_byte:.3f} bits per byte, "
            f"perplexity {record.perplexity:.2f}{best}"
        )

    def after_sample(self, step: int, text: str) -> None:
        """Print how the story begins, to someone who may be watching."""
        if self.console.is_terminal:
            line = self._printable(" ".join(text.split()))
            self.console.print(Text(line, style="dim italic"), no_wrap=True, overflow="ellipsis")

    def message(self, text: str) -> None:
        """Print a line; it stays on the screen."""
        self.console.print(Text(self._printable(text)), soft_wrap=True)

    def close(self) -> None:
        """Leave the newest line on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._newest is not None and self._newest is not self._printed and not self.console.is_terminal:
            self._print_plain(self._newest)

    def _print_plain(self, record: StepRecord) -> None:
        self._printed = record
        self.message(" | ".join(self._parts(record)))

    def _show(self, line: Text) -> None:
        if self._live is None:
            # Renewed by records, not by a thread. Does not catch what others print: they may print to elsewhere.
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(line, refresh=True)

    def _line(self, record: StepRecord) -> Text:
        separator = " · " if self._unicode() else " | "
        parts = self._parts(record)
        if self._unicode():
            parts[1] += f" {sparkline(list(self._losses))}"
        return Text(separator.join(parts), no_wrap=True, overflow="ellipsis")

    def _parts(self, record: StepRecord) -> list[str]:
        of = "" if record.steps is None else f"/{record.steps:,}"
        parts = [f"step {record.step:,}{of} {record.progress:.0%}", f"loss {record.loss:.3f}"]
        if self._validation is not None:
            parts.append(f"validation {self._validation:.3f} bpb")
        parts += [f"lr {record.lr:.1e}", f"{_short(record.tokens_per_second)} tokens/s"]
        if record.skipped:
            parts.append(f"{record.skipped} skipped")
        if (left := self._seconds_left(record)) is not None:
            parts.append(f"{_clock(left)} left")
        return parts

    def _seconds_left(self, record: StepRecord) -> float | None:
        """By the speed since the first record of this session: compiling and earlier machines do not count."""
        first = self._first
        if first is None or record.progress <= first.progress:
            return None
        return (record.seconds - first.seconds) / (record.progress - first.progress) * (1 - record.progress)

    def _printable(self, text: str) -> str:
        return text.encode(self.console.encoding, "replace").decode(self.console.encoding)

    def _unicode(self) -> bool:
        return self.console.encoding.startswith("utf")


def sparkline(values: list[float]) -> str:
    """Bars as high as the values, from the lowest to the highest of them.

    >>> sparkline([8.0, 4.0, 2.0, 1.0])
    '█▄▂▁'
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BARS) - 1) / ((high - low) or 1.0)
    return "".join(BARS[round((value - low) * scale)] for value in finite)


def _short(number: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"

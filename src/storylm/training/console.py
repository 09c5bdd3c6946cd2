"""What a person sees of a run: one live line in a terminal, a plain line now and then elsewhere."""

from collections import deque
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text

from storylm.training.live_line import MOST_BARS, fitted, parts_of
from storylm.training.records import EvaluationRecord, Observer, StepRecord

PLAIN_SECONDS = 15.0  # between lines where output goes to a file or a pipe


class RunConsole(Console):
    """A console that falls silent where nobody reads any more, as after `storylm train ... | head`.

    Rich would end the program, and with it a run that may have cost days.
    """

    def on_broken_pipe(self) -> None:
        """Send what is still to come to nowhere."""
        with suppress(SystemExit):
            super().on_broken_pipe()


class ConsoleObserver(Observer):
    """Writes to standard output, in a terminal a line of its width:

    step 1,200/5,000 24% · loss 1.832 █▅▄▃▃▂▂▁▂▁ · 41.2k tok/s · 31% peak · 1.2 GB · 3:12 left
    """

    def __init__(self, console: Console | None = None):
        self.console = console or RunConsole(highlight=False)
        self._live: Live | None = None
        self._first: StepRecord | None = None
        self._newest: StepRecord | None = None
        self._printed: StepRecord | None = None
        self._validation: float | None = None
        self._losses: deque[float] = deque(maxlen=MOST_BARS)

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
        self.message(" | ".join(self._parts(record).values()))

    def _show(self, line: Text) -> None:
        if self._live is None:
            # Renewed by records, not by a thread. Does not catch what others print: they may print to elsewhere.
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(line, refresh=True)

    def _line(self, record: StepRecord) -> Text:
        line = fitted(self._parts(record), list(self._losses), self.console.width, self._unicode())
        return Text(line, no_wrap=True, overflow="ellipsis")

    def _parts(self, record: StepRecord) -> dict[str, str]:
        return parts_of(record, self._validation, self._seconds_left(record))

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

"""Ctrl-C and SIGTERM as a request to stop: the loop finishes its step, saves and says how to go on."""

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any


class StopSignal:
    """While the block lasts, the first SIGINT or SIGTERM only sets `requested`; a second Ctrl-C ends at once.

    >>> with StopSignal() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     print(stop.requested, stop.exit_code)
    True 143

    Outside the main thread, where Python allows no handlers, it never asks for anything. A signal that the
    parent process had set to be ignored, as a shell does with Ctrl-C for what it runs in the background, stays so.
    """

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers  # Ctrl-C, with a line on stderr
        self.requested = False
        self.exit_code = 0  # 128 + the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # None is a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def request(self, exit_code: int) -> None:
        """As a signal does: the first one decides the exit code."""
        if not self.requested:
            self.requested, self.exit_code = True, exit_code

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request(128 + number)
        if number == signal.SIGINT and self.answers:
            # Not print: the signal may have come in the middle of one.
            with suppress(OSError):
                os.write(2, b"\nstopping after this step and saving; Ctrl-C again stops at once\n")

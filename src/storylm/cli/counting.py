"""How far something has come: a bar on a terminal, a line now and then elsewhere; always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS = 10.0  # between lines that are not on a terminal


class Count(Protocol):
    """Says what is being done, how much of it is, of how much (0: not known), and anything else."""

    def __call__(self, what: str, done: int = 0, total: int = 0, note: str = "", /) -> None: ...


@contextmanager
def counting(what: str, total: int = 0) -> Iterator[Count]:
    """Within, call what is given as often as one likes; where it says another `what`, counting begins anew."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("what", "count", "note")]
    columns = (texts[0], BarColumn(), *texts[1:], TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, shown = bar.add_task("", total=total or None, what=what, count="", note=""), what
        said = time.monotonic()

        def count(what: str, done: int = 0, total: int = 0, note: str = "", /) -> None:
            nonlocal task, shown, said
            if what != shown:
                bar.remove_task(task)
                task, shown = bar.add_task("", total=total or None, what=what, count="", note=""), what
            of = f"{done:,} of {total:,}" if total else ""
            bar.update(task, completed=done, total=total or None, count=of, note=note)
            if not console.is_terminal and time.monotonic() - said > SECONDS:
                print(": ".join(filter(None, (what, ", ".join(filter(None, (of, note)))))), file=sys.stderr, flush=True)
                said = time.monotonic()

        yield count

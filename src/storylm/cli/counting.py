"""How far something has come that is counted: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 10.0  # between lines that are not on a terminal


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Within, call what is given with how many are done, and how many of these failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, said = bar.add_task(what, total=total), time.monotonic()

        def tell(done: int, failed: int) -> None:
            nonlocal said
            bar.update(task, completed=done, description=f"{what} ({failed} failed)" if failed else what)
            if not console.is_terminal and time.monotonic() - said > SECONDS:
                print(f"{what}: {done:,} of {total:,}, {failed:,} failed", file=sys.stderr, flush=True)
                said = time.monotonic()

        yield tell

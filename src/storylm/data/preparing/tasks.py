"""A `Task`: a piece of preparing that any process of any machine may do, any number of times, and who has them done.

What a task has written is listed in its record, a small JSON file written last, with the SHA-256 of every file. Run
again, a task whose record and files verify does nothing; any other is done anew, and gives the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from storylm.config.files import write_text
from storylm.data.prepared import file_entry

if TYPE_CHECKING:
    from storylm.data.preparing.pool import Tally

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Tell = Callable[["Tally", list[int]], None]
"""Told several times a second of the tally so far and the numbers of finished tasks."""


class Task(Protocol[Result_co]):
    """Picklable. All its paths are absolute, on a file system that every worker sees under the same name."""

    @property
    def record(self) -> Path:
        """The file that says it is done."""
        ...

    def run(self) -> None:
        """Do it, unless that is done."""
        ...

    def result(self) -> Result_co:
        """What its record says."""
        ...


class Executor(Protocol):
    """Who has tasks done: `pool.Pool` on this machine, `on_datatrove` on many."""

    def run(self, tasks: Sequence[Task[Result]], size: int, work: Path, tell: Tell) -> Iterator[Result]:
        """The tasks' results in order, once they are done.

        Args:
            size: bytes to work on in all, as a hint of how many workers pay.
            work: a folder for what the executor itself has to write.

        Raises:
            SetupError: a worker died. Whatever a task raised.
        """
        ...


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write the record of a finished task."""
    text = json.dumps(content)
    write_text(path, json.dumps({"sha256": _sha256(text), "content": content}))


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a finished task; None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record["content"] if record["sha256"] == _sha256(json.dumps(record["content"])) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_done(record: Path, root: Path) -> bool:
    """Whether the record stands and every one of its `files`, named from `root`, has the bytes it should have."""
    content = read_record(record)
    return content is not None and files_match(root, content["files"])


def files_match(root: Path, files: dict[str, dict[str, Any]]) -> bool:
    """Whether each file under `root` is as its entry says: 1-2 GB/s."""
    return all((root / name).is_file() and file_entry(root / name) == entry for name, entry in files.items())


def carry_out(task: Task[Result]) -> Result:
    """Do a task and tell what came of it."""
    task.run()
    return task.result()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Answers on disk, a JSON line each, written as they come: what was paid for is not lost, and not paid twice.

A line that a crash left half written is cut off when the file is opened again; every other line is as it was.
"""

import json
import os
from pathlib import Path
from threading import Lock
from typing import Any

from storylm.config.errors import DataError
from storylm.evaluation.judge.rubric import BadAnswer, Grades, from_values


class Kept:
    """Rows in a file, and the grades of each by its `key` in memory; the last row of a key counts.

    >>> with Kept(path) as kept:                                                # doctest: +SKIP
    ...     kept.add({"key": "4f2a", "grades": {"grammar": 7, "creativity": 4, ...}})
    ...     kept.get("4f2a")
    Grades(grammar=7, creativity=4, ...)

    Raises:
        DataError: a line of the file is no answer of a judge.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        self._grades: dict[str, Grades] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self._grades[row["key"]] = from_values(row["grades"])
            except (ValueError, KeyError, TypeError, AttributeError, BadAnswer) as error:
                raise DataError(
                    f"{path}, line {number}, is no answer of a judge ({error!r}): delete it, or choose another --out"
                ) from error
        self._file = open(path, "ab")  # noqa: SIM115 - closed by `__exit__`
        if len(whole) < len(content):
            self._file.truncate(len(whole))

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._grades)

    def get(self, key: str) -> Grades | None:
        """The grades of this key, if there are some."""
        return self._grades.get(key)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row: when this returns, it is on disk. From any thread."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._grades[row["key"]] = from_values(row["grades"])

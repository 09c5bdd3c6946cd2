"""`Record`: one entry of a corpus as it was read, before any cleaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENDOFTEXT = "<|endoftext|>"
"""What parts stories in text files. Inside a JSON or parquet story it is ordinary text."""

MAX_STORY_BYTES = 16 * 2**20
"""A longer record is not read but counted: no corpus of stories has one, a file without separators is one."""


@dataclass(frozen=True, slots=True)
class Record:
    """A story, a problem, or both: a story that could be read only after a repair.

    `text` None: nothing could be read, and `problem` says why. `fields` holds what stood beside the story
    (TinyStories-Instruct's words, features, summary; the other keys of a JSON object). `where` says which record
    of which file a problem is in; `problem` is one of a few reasons, so that they can be counted.

    >>> Record("Once upon a time.").problem is None
    True
    """

    text: str | None
    problem: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

"""Stories on the terminal, in a pipe, and in files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from storylm.generation.telling import Story

SEPARATOR = "<|endoftext|>"  # between stories in a pipe: the format that `data.sources` reads
FILES = (".json", ".jsonl", ".txt")


class StoryPrinter:
    """Prints stories one after another, each as it comes or all at once; nothing else goes to stdout.

    >>> printer = StoryPrinter(["Once upon", "One day"])
    >>> printer.add(0, " a time.")
    >>> printer.add(1, " it rained.")
    >>> printer.finish()
    Once upon a time.
    <|endoftext|>
    One day it rained.
    """

    def __init__(self, prompts: Sequence[str]):
        self._prompts, self._begun, self._line_open = prompts, 0, False
        self._terminal = sys.stdout.isatty()
        if not self._terminal and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # whatever a Windows pipe would have

    def add(self, number: int, text: str) -> None:
        """More text of a story; of those before it none is to come."""
        self._begin_up_to(number + 1)
        self._write(text)
        sys.stdout.flush()

    def finish(self) -> None:
        """All stories are told, those too that the model had nothing to add to."""
        self._begin_up_to(len(self._prompts))
        self._end_line()
        sys.stdout.flush()

    def _begin_up_to(self, number: int) -> None:
        for story in range(self._begun, number):
            self._end_line()
            if story or (self._terminal and len(self._prompts) > 1):
                self._write(f"\n── {story + 1} of {len(self._prompts)} ──\n" if self._terminal else f"{SEPARATOR}\n")
            self._write(self._prompts[story])
            self._begun = story + 1

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(printable(text) if self._terminal else text)
            self._line_open = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n")


def printable(text: str) -> str:
    """Text without control characters, which an untrained model may well tell and a terminal would obey."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join("\ufffd" if category(letter) == "Cc" and letter not in "\n\t" else letter for letter in text)


def write_stories(path: Path, stories: Sequence["Story"], about: dict[str, Any]) -> None:
    """Stories as a file: .json (`about` and the stories), .jsonl (one a line) or .txt (as in a pipe)."""
    from storylm.config.files import write_text

    rows = [
        {"text": story.text, "prompt": story.prompt, "seed": story.seed, "tokens": story.tokens, "ended": story.ended}
        for story in stories
    ]
    match path.suffix.lower():
        case ".json":
            content = json.dumps({**about, "stories": rows}, ensure_ascii=False, indent=2) + "\n"
        case ".jsonl":
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        case _:
            content = f"\n{SEPARATOR}\n".join(story.text for story in stories) + "\n"
    write_text(path, content)

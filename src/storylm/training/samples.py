"""samples.md: the stories that the model told on the way."""

import re
from collections.abc import Iterable
from pathlib import Path

from storylm.training.journal import Entry, Journal

# Every line of a story is quoted, so that no story can look like a heading. To Markdown a lone CR ends a line too.
LINE_END = re.compile(r"\r\n?|\n")
SECTION = re.compile(r"^## Step ([\d,]+)\n\n(?:>[^\n]*\n)+\n", re.MULTILINE)


class SamplesFile(Journal):
    """Writes each story as a section of a Markdown file, quoted, under a heading like `## Step 500`."""

    header = "# Samples\n\n"

    def after_sample(self, step: int, text: str) -> None:
        """Write a section."""
        quoted = "".join(f"> {line}".rstrip(" ") + "\n" for line in LINE_END.split(text))
        section = f"## Step {step:,}\n\n{quoted}\n"
        self.write(Entry(step, section, section))

    def entries(self, text: str) -> Iterable[Entry]:
        """Every section that is whole."""
        for match in SECTION.finditer(text):
            yield Entry(int(match[1].replace(",", "")), match[0], match[0])


def read_samples(path: Path) -> list[tuple[int, str]]:
    """(step, story) of every whole section of such a file, in order; none where there is no file.

    >>> read_samples(run / "samples.md")[0]                                         # doctest: +SKIP
    (500, 'Once upon a time...')
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return [(int(match[1].replace(",", "")), _unquoted(match[0])) for match in SECTION.finditer(text)]


def _unquoted(section: str) -> str:
    return "\n".join(line[1:].removeprefix(" ") for line in section.split("\n") if line.startswith(">"))

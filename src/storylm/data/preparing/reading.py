"""Stage 1 of preparing: parts are read and cleaned story by story, in any process, into chunks of bounded size.

The folder of a part, written whole or not at all, so that an interrupted preparation goes on with the next part:

    part.json           the cleaning report so far; stories and bytes of each chunk
    0.zst, 1.zst, ...   chunks: stories as lines of JSON strings
    marks               the stories' fingerprints end to end, for stage 2
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from storylm.config.files import atomic_folder
from storylm.config.schema import CleaningConfig
from storylm.data.cleaning import clean_record
from storylm.data.cleaning_report import CleaningReport
from storylm.data.duplicates import fingerprint
from storylm.data.preparing.pool import tally
from storylm.data.sources import Part
from storylm.data.streams import zstd

TALLY_STORIES = 200


@dataclass(frozen=True)
class ReadTask:
    """What one process reads: at most `limit` records of `part`, into chunks of about `chunk_bytes`."""

    part: Part
    folder: Path
    split: str
    cleaning: CleaningConfig
    chunk_bytes: int
    limit: int | None = None


@dataclass
class PartRead:
    """A part after stage 1; `chunks` holds each one's (stories, bytes of text)."""

    folder: Path
    split: str
    report: CleaningReport
    chunks: list[tuple[int, int]] = field(default_factory=list)

    @property
    def stories(self) -> int:
        return sum(stories for stories, _ in self.chunks)

    def texts(self, chunk: int) -> Iterator[str]:
        """The stories of one chunk."""
        with zstd.open(self.folder / f"{chunk}.zst", "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)


def read_part(task: ReadTask) -> PartRead:
    """Read and clean a part into its folder, unless that is done."""
    if not (task.folder / "part.json").is_file():
        with atomic_folder(task.folder) as folder:
            _write_part(task, folder)
    content = json.loads((task.folder / "part.json").read_text(encoding="utf-8"))
    chunks = [(stories, size) for stories, size in content["chunks"]]
    return PartRead(task.folder, task.split, CleaningReport.from_json(content["report"]), chunks)


def _write_part(task: ReadTask, folder: Path) -> None:
    report = CleaningReport()
    chunks: list[list[int]] = []
    file: Any = None
    since = [0, 0]  # the tally was last told: bytes, stories
    with open(folder / "marks", "wb") as marks:
        for record in islice(task.part, task.limit):
            text = clean_record(record, task.cleaning, report)
            if text is None:
                continue
            if file is None or chunks[-1][1] >= task.chunk_bytes:
                if file is not None:
                    file.close()
                file = zstd.open(folder / f"{len(chunks)}.zst", "wb", level=1)
                chunks.append([0, 0])
            file.write(json.dumps(text, ensure_ascii=False).encode() + b"\n")
            marks.write(fingerprint(text, task.cleaning))
            size = len(text.encode())
            for counts in (chunks[-1], since):
                counts[0] += 1
                counts[1] += size
            if since[0] >= TALLY_STORIES:
                tally().add(stories=since[0], text_bytes=since[1])
                since = [0, 0]
    if file is not None:
        file.close()
    tally().add(stories=since[0], text_bytes=since[1])
    content = {"report": report.to_json(), "chunks": chunks}
    (folder / "part.json").write_text(json.dumps(content), encoding="utf-8")

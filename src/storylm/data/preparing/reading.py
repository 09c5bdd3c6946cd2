"""Stage 1 of preparing: parts are read and cleaned story by story, in any process, into chunks of bounded size.

The folder of a part, written whole or not at all, so that an interrupted preparation goes on with the next part:

    part.json           its record: the cleaning report so far; stories and bytes of each chunk; SHA-256 of the files
    0.zst, 1.zst, ...   chunks: stories as lines of JSON: a string, or a list of a story and its order
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
from storylm.data.instruct import Order, Ordered, order_of
from storylm.data.orders import PLAIN, Orders
from storylm.data.prepared import file_entry
from storylm.data.preparing.pool import tally
from storylm.data.preparing.tasks import is_done, read_record, write_record
from storylm.data.sources import Part
from storylm.data.streams import zstd

TALLY_STORIES = 200


@dataclass
class PartRead:
    """A part after stage 1; `chunks` holds each one's (stories, bytes of text)."""

    folder: Path
    split: str
    report: CleaningReport
    chunks: list[tuple[int, int]] = field(default_factory=list)
    asked: int = 0
    """Stories whose order asks for something."""

    @property
    def stories(self) -> int:
        return sum(stories for stories, _ in self.chunks)

    def texts(self, chunk: int) -> Iterator[str]:
        """The stories of one chunk; those that have an order are `Ordered`."""
        with zstd.open(self.folder / f"{chunk}.zst", "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                content = json.loads(line)
                yield content if isinstance(content, str) else Ordered(*content)


@dataclass(frozen=True)
class ReadTask:
    """At most `limit` records of `part`, read and cleaned into chunks of about `chunk_bytes` in `folder`."""

    part: Part
    folder: Path
    split: str
    cleaning: CleaningConfig
    chunk_bytes: int
    limit: int | None = None
    orders: Orders = PLAIN

    @property
    def record(self) -> Path:
        return self.folder / "part.json"

    def run(self) -> None:
        if not is_done(self.record, self.folder):
            with atomic_folder(self.folder) as folder:
                _write_part(self, folder)

    def result(self) -> PartRead:
        content = read_record(self.record)
        assert content is not None, f"{self.record} was just written"
        chunks = [(stories, size) for stories, size in content["chunks"]]
        report = CleaningReport.from_json(content["report"])
        return PartRead(self.folder, self.split, report, chunks, content.get("asked", 0))


def _write_part(task: ReadTask, folder: Path) -> None:
    report = CleaningReport()
    chunks: list[list[int]] = []
    file: Any = None
    asked = 0
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
            story = task.orders.before(text, record.fields, task.cleaning)
            order = order_of(story)
            asked += order not in ("", Order().prompt)
            file.write(json.dumps([text, order] if order else text, ensure_ascii=False).encode() + b"\n")
            marks.write(fingerprint(text, task.cleaning))  # whatever it was asked to have
            size = len(text.encode()) + len(order.encode())
            for counts in (chunks[-1], since):
                counts[0] += 1
                counts[1] += size
            if since[0] >= TALLY_STORIES:
                tally().add(stories=since[0], text_bytes=since[1])
                since = [0, 0]
    if file is not None:
        file.close()
    tally().add(stories=since[0], text_bytes=since[1])
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    write_record(
        folder / task.record.name, {"report": report.to_json(), "chunks": chunks, "asked": asked, "files": files}
    )

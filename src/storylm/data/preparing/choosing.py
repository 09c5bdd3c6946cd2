"""Stage 2 of preparing: which stories are validation's, and which are duplicates. In order, by one process.

It looks at fingerprints only, so the result is the same however many processes made them. They are read from disk in
blocks; what grows with the corpus in memory is one byte for each story read, and what `data.duplicates` remembers of
those that are kept: 11-21 bytes to find exact duplicates, some 230 more to find near ones, 150 more for each of
validation. One byte a story goes to the file `verdicts` beside the fingerprints.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from storylm.config.files import atomic_file
from storylm.config.schema import CleaningConfig
from storylm.data.cleaning_report import RULES
from storylm.data.duplicates import DuplicateFilter
from storylm.data.prepared import file_entry
from storylm.data.preparing.reading import PartRead
from storylm.data.preparing.tasks import is_done, write_record

KEPT = 0  # else the number in RULES of the rule that drops the story
VALIDATION = 0x80  # added to that where the story belongs to validation

BLOCK_STORIES = 5000


def choose(
    parts: Sequence[PartRead],
    cleaning: CleaningConfig,
    held_out: float | None,
    record: Path,
    tell: Callable[[float], None] = lambda share: None,
) -> None:
    """Write each part's `verdicts`, unless that is done.

    Args:
        held_out: the share of train to set apart as validation, chosen by a hash of the text alone, so that a story
            and its copies are on the same side in any corpus; None where validation has parts of its own.
        record: the file that says it is done, as with tasks.
        tell: called with the share that is done.
    """
    if is_done(record, record.parent):
        return
    verdicts = _validation(parts, held_out)
    total, done = sum(part.stories for part in parts), 0
    validation: list[bytes] = []  # fingerprints of its stories
    for now in (VALIDATION, KEPT):
        mine = [part_verdicts == now for part_verdicts in verdicts]
        capacity = sum(int(part.sum()) for part in mine)
        duplicates = DuplicateFilter(cleaning, validation if now == KEPT else None, capacity)
        for part, part_mine, part_verdicts in zip(parts, mine, verdicts, strict=True):
            for first, marks in _marks(part):
                for story in np.flatnonzero(part_mine[first : first + len(marks)]):
                    mark = marks[story].tobytes()
                    rule = duplicates.check(mark)
                    if rule is not None:
                        part_verdicts[first + story] += RULES.index(rule)
                    elif now == VALIDATION:
                        validation.append(mark)
                    done += 1
                tell(done / total)
    for part, part_verdicts in zip(parts, verdicts, strict=True):
        with atomic_file(part.folder / "verdicts") as temporary:
            temporary.write_bytes(part_verdicts.tobytes())
    paths = [part.folder / "verdicts" for part in parts]
    files = {path.relative_to(record.parent).as_posix(): file_entry(path) for path in paths}
    write_record(record, {"files": files})


def _marks(part: PartRead) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of fingerprints, one a row, each with the number of its first story."""
    path = part.folder / "marks"
    width = os.path.getsize(path) // max(1, part.stories)
    for first in range(0, part.stories, BLOCK_STORIES):
        count = min(BLOCK_STORIES, part.stories - first)
        yield first, np.fromfile(path, np.uint8, count * width, offset=first * width).reshape(count, width)


def _validation(parts: Sequence[PartRead], held_out: float | None) -> list[np.ndarray]:
    """Of each part's stories, VALIDATION or KEPT."""
    if held_out is None:
        sides = [VALIDATION if part.split == "validation" else KEPT for part in parts]
        return [np.full(part.stories, side, np.uint8) for part, side in zip(parts, sides, strict=True)]
    verdicts = _below(parts, np.uint64(held_out * 2**64))
    if not any(part.any() for part in verdicts):
        # So small a corpus: hold out a single story (with its copies), but not the only one.
        every = np.unique(np.concatenate([_hashes(marks) for part in parts for _, marks in _marks(part)] or [[]]))
        if len(every) > 1:
            verdicts = _below(parts, every[1])
    return verdicts


def _below(parts: Sequence[PartRead], limit: np.uint64) -> list[np.ndarray]:
    """VALIDATION for the stories whose hash is below `limit`."""
    verdicts = [np.zeros(part.stories, np.uint8) for part in parts]
    for part, part_verdicts in zip(parts, verdicts, strict=True):
        for first, marks in _marks(part):
            part_verdicts[first : first + len(marks)] = np.where(_hashes(marks) < limit, VALIDATION, KEPT)
    return verdicts


def _hashes(marks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(marks[:, :8]).view("<u8").ravel()

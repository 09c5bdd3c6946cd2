"""Stage 2 of preparing: which stories are validation's, and which are duplicates. In order, by one process.

It looks at fingerprints only, so the result is the same however many processes made them. Memory grows with the
number of stories: about 400 bytes for each that is kept (`data.duplicates`) and some 10 for each that is read, 150
more for each of validation; 1.1 GB for the 2.7 million stories of TinyStories V2. One byte a story goes to the file
`verdicts` beside the fingerprints.
"""

from collections.abc import Callable, Sequence

import numpy as np

from storylm.config.files import atomic_file
from storylm.config.schema import CleaningConfig
from storylm.data.cleaning_report import RULES
from storylm.data.duplicates import DuplicateFilter
from storylm.data.preparing.reading import PartRead

KEPT = 0  # else the number in RULES of the rule that drops the story
VALIDATION = 0x80  # added to that where the story belongs to validation

TELL_STORIES = 5000


def choose(
    parts: Sequence[PartRead],
    cleaning: CleaningConfig,
    held_out: float | None,
    tell: Callable[[float], None] = lambda share: None,
) -> None:
    """Write each part's `verdicts`.

    Args:
        held_out: the share of train to set apart as validation, chosen by a hash of the text alone, so that a story
            and its copies are on the same side in any corpus; None where validation has parts of its own.
        tell: called with the share that is done.
    """
    if all((part.folder / "verdicts").is_file() for part in parts):
        return
    marks = [_marks(part) for part in parts]
    ours = _validation(parts, marks, held_out)
    verdicts = [np.where(mine, VALIDATION, KEPT).astype(np.uint8) for mine in ours]
    total, done = sum(len(mine) for mine in ours), 0
    validation: list[bytes] = []  # fingerprints of its stories
    for pass_over in ("validation", "train"):
        duplicates = DuplicateFilter(cleaning, validation if pass_over == "train" else None)
        for part_marks, mine, part_verdicts in zip(marks, ours, verdicts, strict=True):
            for story in np.flatnonzero(mine if pass_over == "validation" else ~mine):
                mark = part_marks[story].tobytes()
                rule = duplicates.check(mark)
                if rule is not None:
                    part_verdicts[story] += RULES.index(rule)
                elif pass_over == "validation":
                    validation.append(mark)
                done += 1
                if done % TELL_STORIES == 0:
                    tell(done / total)
    for part, part_verdicts in zip(parts, verdicts, strict=True):
        with atomic_file(part.folder / "verdicts") as temporary:
            temporary.write_bytes(part_verdicts.tobytes())


def _marks(part: PartRead) -> np.ndarray:
    """Fingerprints, one a row."""
    if not part.stories:
        return np.empty((0, 8), np.uint8)
    return np.memmap(part.folder / "marks", np.uint8, "r").view(np.ndarray).reshape(part.stories, -1)


def _validation(parts: Sequence[PartRead], marks: list[np.ndarray], held_out: float | None) -> list[np.ndarray]:
    """Of each part's stories, whether they belong to validation."""
    if held_out is None:
        return [np.full(part.stories, part.split == "validation") for part in parts]
    hashes = [np.ascontiguousarray(part_marks[:, :8]).view("<u8").ravel() for part_marks in marks]
    below = np.uint64(held_out * 2**64)
    chosen = [part_hashes < below for part_hashes in hashes]
    if not any(part.any() for part in chosen):
        # So small a corpus: hold out a single story (with its copies), but not the only one.
        every = np.concatenate(hashes)
        if len(every) and every.min() < every.max():
            chosen = [part_hashes == every.min() for part_hashes in hashes]
    return chosen

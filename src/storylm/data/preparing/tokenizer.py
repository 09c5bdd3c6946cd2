"""Between choosing and encoding: are there stories, and what cuts them into tokens?"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from storylm.config.errors import DataError
from storylm.config.files import atomic_folder
from storylm.data.cleaning_report import CleaningReport
from storylm.data.instruct import order_of
from storylm.data.orders import PLAIN
from storylm.data.prepared import TOKENIZER, file_entry
from storylm.data.preparing.choosing import KEPT, VALIDATION
from storylm.data.preparing.encoding import chunk_verdicts
from storylm.data.preparing.plan import Plan
from storylm.data.preparing.progress import Stage, Watch
from storylm.data.preparing.reading import PartRead
from storylm.data.preparing.tasks import is_done, write_record
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

BPE_BYTES = 200 * 2**20  # of text: more does not make a better vocabulary


def saved_tokenizer(plan: Plan, parts: Sequence[PartRead], out: Path, record: Path, watch: Watch | None) -> Tokenizer:
    """The plan's tokenizer, or one trained on the stories to train on, saved in `out`; `record` says that it is."""
    folder = out / TOKENIZER
    if not is_done(record, folder):
        tokenizer = plan.tokenizer
        if tokenizer is None:
            Stage("training the tokenizer", watch)
            size = sum(size for part in parts if part.split == "train" for _, size in part.chunks)
            tokenizer = train_bpe(_every(-(-size // BPE_BYTES), parts), plan.vocab_size)
        with atomic_folder(folder) as temporary:
            tokenizer.save(temporary)
        write_record(record, {"files": {path.name: file_entry(path) for path in sorted(folder.iterdir())}})
    return Tokenizer.load(folder)


def _every(stride: int, parts: Sequence[PartRead]) -> Iterator[str]:
    """Every so many-th of the stories to train on, so that a part of a large corpus is like the whole."""
    number = 0
    for part in parts:
        for chunk in range(len(part.chunks)):
            for text, verdict in zip(part.texts(chunk), chunk_verdicts(part, chunk).tolist(), strict=True):
                if verdict == KEPT:
                    if number % stride == 0:
                        yield order_of(text) + text
                    number += 1


def refuse_empty(plan: Plan, parts: Sequence[PartRead], split: str) -> None:
    """Raise `DataError`, with counts, where cleaning has left `split` nothing."""
    wanted = VALIDATION if split == "validation" else KEPT
    dropped = 0
    for part in parts:
        for chunk in range(len(part.chunks)):
            verdicts = chunk_verdicts(part, chunk)
            if (verdicts == wanted).any():
                return
            dropped += int(((verdicts & VALIDATION) == wanted).sum())
    report = sum((part.report for part in parts if part.split == split), CleaningReport())
    by_rule = [f"{rule.dropped:,} by {name}" for name, rule in report.rules.items() if rule.dropped]
    by_rule += [f"{dropped:,} as duplicates or overlap"] if dropped else []
    switchable = dropped or report.dropped > report.rules["reading"].dropped
    name = plan.validation.name if plan.validation and split == "validation" else plan.source.name
    raise DataError(
        f"{name} has no stories for {split}: {report.read:,} records read, dropped: {', '.join(by_rule) or 'none'}"
        + (f"; problems: {report.problems_told()}" if report.problems else "")
        + ("; a rule is switched off by cleaning.RULE=false" if switchable else "")
    )


def refuse_unasked(plan: Plan, parts: Sequence[PartRead]) -> None:
    """Raise `DataError` where stories are to have orders and not one asks for anything."""
    if plan.orders != PLAIN and any(part.stories for part in parts) and not any(part.asked for part in parts):
        raise DataError(
            f"no story of {plan.source.name} comes with words, features, a summary or a sentence that it was to have: "
            "take a corpus that has them, as tinystories-instruct, or --derive-instruct (data.format=derived)"
        )

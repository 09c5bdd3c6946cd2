"""Stage 3 of preparing: chunks of stories become shards, in any process and any order."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storylm.config.files import write_text
from storylm.data.cleaning_report import RULES, CleaningReport
from storylm.data.instruct import order_of
from storylm.data.prepared import ORDER, SPLITS, file_entry
from storylm.data.preparing.choosing import KEPT, VALIDATION
from storylm.data.preparing.pool import tally
from storylm.data.preparing.reading import PartRead
from storylm.data.preparing.tasks import is_done, read_record, write_record
from storylm.data.shards import SUFFIX, write_shard
from storylm.text.tokenizer import Tokenizer

STORIES_AT_ONCE = 1000


@dataclass(frozen=True)
class EncodeTask:
    """A chunk to tokenize: its shards are `out`/train/`name`.tokens and `out`/validation/`name`.tokens.

    Its result: `shards`, of each split that got stories the shard's stories, tokens and bytes of text; `files`, the
    entries of all files for the manifest; `reports`, what stage 2 did to each split.
    """

    part: PartRead
    chunk: int
    name: str
    out: Path
    work: Path
    tokenizer: Path
    fingerprint: str

    @property
    def record(self) -> Path:
        return self.work / f"{self.name}.json"

    def run(self) -> None:
        if is_done(self.record, self.out):
            tally().add(text_bytes=self.part.chunks[self.chunk][1])
        else:
            write_record(self.record, _encode(self))

    def result(self) -> dict[str, Any]:
        content = read_record(self.record)
        assert content is not None, f"{self.record} was just written"
        return content


def chunk_verdicts(part: PartRead, chunk: int) -> np.ndarray:
    """What stage 2 said of a chunk's stories."""
    first = sum(stories for stories, _ in part.chunks[:chunk])
    return np.fromfile(part.folder / "verdicts", np.uint8, count=part.chunks[chunk][0], offset=first)


def _encode(task: EncodeTask) -> dict[str, Any]:
    kept: dict[str, list[str]] = {split: [] for split in SPLITS}
    reports = {split: CleaningReport() for split in SPLITS}
    for text, verdict in zip(task.part.texts(task.chunk), chunk_verdicts(task.part, task.chunk).tolist(), strict=True):
        split = "validation" if verdict & VALIDATION else "train"
        if split != task.part.split:  # held out: validation has read it, not train
            reports[split].read += 1
            reports[task.part.split].read -= 1
        rule = verdict & ~VALIDATION
        if rule == KEPT:
            kept[split].append(text)  # with its order, where it has one
        else:
            reports[split].drop(RULES[rule], text)
    shards = {}
    for split, stories in kept.items():
        if stories:
            shards[f"{split}/{task.name}{SUFFIX}"] = _write(task, split, stories)
    text = task.work / f"{task.name}.jsonl"
    write_text(text, "".join(json.dumps(_row(story), ensure_ascii=False) + "\n" for story in kept["validation"]))
    return {
        "shards": shards,
        "reports": {split: report.to_json() for split, report in reports.items()},
        "files": {name: file_entry(task.out / name) for name in (*shards, text.relative_to(task.out).as_posix())},
    }


def _row(story: str) -> dict[str, str]:
    """A validation story as a line of JSON."""
    return {"text": story, **({ORDER: order} if (order := order_of(story)) else {})}


def _write(task: EncodeTask, split: str, stories: list[str]) -> dict[str, Any]:
    tokenizer = _load(task.tokenizer, task.fingerprint)
    *before, after = tokenizer.story_ids([])
    streams, told_from = [], []
    size = 0
    for first in range(0, len(stories), STORIES_AT_ONCE):
        texts = stories[first : first + STORIES_AT_ONCE]
        orders = [order_of(text) for text in texts]
        # By itself, as it is when there is only the order and the story is yet to be told.
        before_each = (
            [[*before, *ids] for ids in tokenizer.encode_batch(orders)] if any(orders) else [before] * len(texts)
        )
        for asked, ids in zip(before_each, tokenizer.encode_batch(texts), strict=True):
            streams.append(np.concatenate((asked, ids, [after])).astype(np.uint32))
            told_from.append(len(asked))
        text_bytes = sum(len(text.encode()) for text in [*orders, *texts])
        size += text_bytes
        tokens = sum(len(stream) for stream in streams[first:])
        tally().add(stories=len(texts), text_bytes=text_bytes, tokens=tokens)
    header = write_shard(
        task.out / split / f"{task.name}{SUFFIX}",
        streams,
        vocab_size=tokenizer.vocab_size,
        start_id=tokenizer.start_id,
        end_id=tokenizer.end_id,
        tokenizer=tokenizer.fingerprint,
        told_from=told_from if any(map(order_of, stories)) else None,
    )
    return {"stories": header.stories, "tokens": header.tokens, "bytes": size}


@lru_cache(maxsize=1)
def _load(folder: Path, fingerprint: str) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.fingerprint == fingerprint, "a saved tokenizer is the same when loaded"
    return tokenizer

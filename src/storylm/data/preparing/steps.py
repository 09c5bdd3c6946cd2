"""The steps of preparing, in order, in a folder that nobody else works in. Each begins where it was interrupted."""

import errno
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from storylm.config.errors import SetupError, UsageError
from storylm.config.files import TEMPORARY, atomic_file, atomic_folder, sweep, write_text
from storylm.data.cache import LOCK
from storylm.data.cleaning_report import CleaningReport
from storylm.data.prepared import (
    CLEANING,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    VALIDATION_TEXT,
    Prepared,
    file_entry,
    read_manifest,
    write_manifest,
)
from storylm.data.preparing.choosing import choose
from storylm.data.preparing.encoding import EncodeTask
from storylm.data.preparing.plan import Plan
from storylm.data.preparing.pool import SMALL_BYTES, Pool, Tally
from storylm.data.preparing.progress import Stage, Watch
from storylm.data.preparing.reading import PartRead, ReadTask
from storylm.data.preparing.tasks import Executor
from storylm.data.preparing.tokenizer import refuse_empty, refuse_unasked, saved_tokenizer
from storylm.text.tokenizer import Tokenizer

WORK = ".work"  # what is done so far; gone once all is
KEY = Path(WORK) / "key"  # of the plan
OWN_NAMES = {LOCK, WORK, MANIFEST, CLEANING, TOKENIZER, VALIDATION_TEXT, *SPLITS}
CHUNK_BYTES = 8 * 2**20  # of text: what becomes one shard
ENCODING_SPEED = 8  # times that of reading and cleaning, about: so fewer processes pay


def carry_out(plan: Plan, out: Path, executor: Executor, watch: Watch | None) -> Prepared:
    """Prepare what `plan` says in `out`; if that is done, open it. `executor` has stages 1 and 3 done."""
    manifest = read_manifest(out)
    if manifest is not None and manifest.get("key") == plan.key:
        return Prepared.load(out)
    if manifest is not None:
        raise UsageError(
            f"{out} holds stories prepared otherwise ({_differences(manifest, plan)}): take another --out or delete it"
        )
    try:
        _begin(plan, out)
        work = (out / WORK).absolute()
        parts = _read(plan, work, executor, watch)
        refuse_unasked(plan, parts)
        stage = Stage("finding duplicates", watch)
        choose(parts, plan.cleaning, plan.held_out, work / "chosen.json", stage.tell)
        for split in SPLITS[: 1 if plan.held_out else 2]:
            refuse_empty(plan, parts, split)
        tokenizer = saved_tokenizer(plan, parts, out, work / "tokenizer.json", watch)
        chunks = _encode(parts, tokenizer, out.absolute(), executor, watch)
        _finish(plan, parts, chunks, tokenizer, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(f"the disk of {out} is full: make room and run the same again, it will go on") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SetupError(f"cannot write to {out}: {error.strerror}; choose another folder") from error
        raise
    return Prepared.load(out)


def empty(folder: Path) -> None:
    """Delete everything in a folder but its lock."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def refuse_foreign(out: Path) -> None:
    """Raise `UsageError` if `out` holds anything but prepared stories, finished or not.

    What is not finished may be deleted later on: so every name must be one of ours, and the key must be there.
    """
    if not out.exists() or read_manifest(out) is not None:
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file: choose another --out")
    ours = OWN_NAMES if (out / KEY).is_file() else {LOCK}
    unfinished = tuple(f"{TEMPORARY}{name}." for name in (*ours, WORK))
    for name in sorted(entry.name for entry in out.iterdir()):
        if name not in ours and not name.startswith(unfinished):
            raise UsageError(f"{out} is not empty and holds no prepared stories, but {name}: choose another --out")


def _begin(plan: Plan, out: Path) -> None:
    """Make sure that what stands in `out` is the unfinished work of this plan, or nothing."""
    refuse_foreign(out)
    key = out / KEY
    if not key.is_file() or key.read_text(encoding="utf-8") != plan.key:
        empty(out)  # unfinished, and of other settings or files
        with atomic_folder(out / WORK) as work:  # from here on `out` is known as ours
            write_text(work / KEY.name, plan.key)
    for folder in (out, out / WORK / "parts", *(out / split for split in SPLITS)):
        sweep(folder)


# -- stage 1 ---------------------------------------------------------------------------------------------


def _read(plan: Plan, work: Path, executor: Executor, watch: Watch | None) -> list[PartRead]:
    parts = plan.parts()
    tasks = [
        ReadTask(part, work / "parts" / f"{number:05}", split, plan.cleaning, CHUNK_BYTES, orders=plan.orders)
        for number, (split, part) in enumerate(parts)
    ]
    sizes = [part.size or SMALL_BYTES // 8 for _, part in parts]
    stage = Stage("reading and cleaning", watch)

    def tell(tally: Tally, finished: list[int]) -> None:
        stage.tell(sum(sizes[number] for number in finished) / sum(sizes), *tally.read())

    limit = plan.max_stories
    if limit is None:
        return list(executor.run(tasks, sum(sizes), work, tell))
    # So many records and no more: how many a part may give is known only once those before it are read.
    read: list[PartRead] = []
    for task in tasks:
        if task.split == "train":
            task = replace(task, limit=limit)
        if limit or task.split == "validation":
            read += Pool(1).run([task], 0, work, lambda tally, _: stage.tell(None, *tally.read()))
        if task.split == "train" and limit:
            limit -= read[-1].report.read
    return read


# -- stage 3 ---------------------------------------------------------------------------------------------


def _encode(
    parts: Sequence[PartRead], tokenizer: Tokenizer, out: Path, executor: Executor, watch: Watch | None
) -> list[dict[str, Any]]:
    work = out / WORK
    chunks = [(part, chunk) for part in parts for chunk in range(len(part.chunks))]
    tasks = [
        EncodeTask(part, chunk, f"{number:06}", out, work / "encoded", out / TOKENIZER, tokenizer.fingerprint)
        for number, (part, chunk) in enumerate(chunks)
    ]
    sizes = [part.chunks[chunk][1] for part, chunk in chunks]
    stage = Stage("encoding", watch)

    def tell(tally: Tally, finished: list[int]) -> None:
        done = max(tally.read()[0], sum(sizes[number] for number in finished))
        stage.tell(min(1.0, done / sum(sizes)), *tally.read())

    return list(executor.run(tasks, sum(sizes) // ENCODING_SPEED, work, tell))


# -- the end ---------------------------------------------------------------------------------------------


def _finish(
    plan: Plan, parts: Sequence[PartRead], chunks: Sequence[dict[str, Any]], tokenizer: Tokenizer, out: Path
) -> None:
    """Reports, validation as text, and at last the manifest."""
    reports = {}
    for split in SPLITS:
        report = sum((part.report for part in parts if part.split == split), CleaningReport())
        reports[split] = sum((CleaningReport.from_json(chunk["reports"][split]) for chunk in chunks), report)
    content = {split: report.to_json() for split, report in reports.items()}
    write_text(out / CLEANING, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    with atomic_file(out / VALIDATION_TEXT) as temporary, open(temporary, "wb") as file:
        for piece in sorted((out / WORK / "encoded").glob("*.jsonl")):
            file.write(piece.read_bytes())
    shards = {name: counts for chunk in chunks for name, counts in chunk["shards"].items()}
    entries = {name: chunk["files"][name] for chunk in chunks for name in chunk["shards"]}
    splits = {}
    for split in SPLITS:
        mine = {name: counts for name, counts in shards.items() if name.startswith(f"{split}/")}
        totals = {count: sum(counts[count] for counts in mine.values()) for count in ("stories", "tokens", "bytes")}
        splits[split] = {**totals, "shards": list(mine)}
    others = [CLEANING, VALIDATION_TEXT, *(f"{TOKENIZER}/{path.name}" for path in sorted((out / TOKENIZER).iterdir()))]
    manifest = {
        "key": plan.key,
        "settings": plan.settings(),
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        "splits": splits,
        "files": {name: file_entry(out / name) for name in others} | entries,
    }
    write_manifest(out, manifest)
    shutil.rmtree(out / WORK)


def _differences(manifest: dict[str, Any], plan: Plan) -> str:
    there, here = manifest.get("settings", {}), plan.settings()
    changed = [f"{name}: {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]]
    return "; ".join(changed[:2]) or "the source's files have changed"

"""Whatever stands in a corpus: no crash, each thing counted with a reason, and no text becomes a control token."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reliability.dirt import CONTROL_TOKENS, STORIES, as_text, corpora, read_damaged
from reliability.lives import Life
from reliability.rows import SEED, sizes
from storylm.config.load import resolve
from storylm.config.schema import CleaningConfig
from storylm.data.cleaning import Cleaner
from storylm.data.prepare import prepare
from storylm.data.prepared import Prepared
from storylm.data.sources import open_source
from storylm.training.run import train_run
from training.runs import SMALL

pytest.importorskip("pyarrow")
CLEANING = CleaningConfig(near_duplicates=False)  # the stories here are alike


def counted(folder: Path, reason: str | None) -> None:
    """That the only file in `folder` is read without a crash, and what is wrong with it counted for what it is."""
    cleaner = Cleaner(CLEANING)
    kept = list(cleaner.clean(open_source(str(folder)).stories("train")))
    report = cleaner.report
    assert report.read == len(kept) + report.dropped
    if reason is None:
        assert kept
        assert not report.problems
    elif reason in report.rules:
        assert report.rules[reason].changed
        assert report.rules[reason].examples
    else:
        assert any(problem.startswith(reason) for problem in report.problems), report.problems
        assert report.rules["reading"].examples


def no_control_tokens(prepared: Prepared, texts: int) -> None:
    """That special tokens stand around stories only, and literal ones are told back to the letter."""
    tokenizer = prepared.tokenizer
    tokens = np.concatenate([shard.tokens for shard in prepared.split("train").shards])
    around = len({tokenizer.start_id, tokenizer.end_id})
    assert np.isin(tokens, list(tokenizer.special_ids)).sum() == around * prepared.stories("train")
    assert (tokens == tokenizer.end_id).sum() == prepared.stories("train") == texts
    told = tokenizer.decode(tokens)
    assert all(token in told for token in CONTROL_TOKENS)


@sizes("dirty")
def test_dirty(count: int, tmp_path: Path, figures: Callable[..., None]) -> None:
    kinds = corpora(10 if count > 100 else 1)  # MB of the longest story
    everything = tmp_path / "everything"
    everything.mkdir()
    (everything / "validation.txt").write_bytes(as_text(STORIES[50:55]))
    for number, (kind, (name, raw, reason)) in enumerate(kinds.items()):
        folder = tmp_path / "one at a time" / kind
        folder.mkdir(parents=True)
        for path in (folder / name, everything / f"{number}-{name}"):
            path.write_bytes(raw)
        before = set(tmp_path.rglob("*"))
        counted(folder, reason)
        assert set(tmp_path.rglob("*")) == before, "something was written"

    # All of it as one corpus: prepared, and trained on.
    prepared = prepare(str(everything), "bpe", tmp_path / "prepared", CLEANING, vocab_size=320, workers=1)
    report = prepared.report("train")
    assert len(report.problems) > 8
    no_control_tokens(prepared, report.kept)
    config = resolve(None, None, [*SMALL, f"data.source={tmp_path / 'prepared'}", "train.steps=2"]).config
    assert train_run(config, tmp_path / "run").reason == "finished"

    life = Life(read_damaged, tmp_path, count, SEED)
    assert life.end() == 0, (life.events[-1], life.output)
    outcomes = Counter(event[3] for event in life.events if event[0] == "read")
    crashes = [event for event in life.events if event[0] == "read" and event[3].startswith("crashed")]
    assert not crashes, crashes
    assert outcomes.total() == count
    figures("dirty", count, kinds=len(kinds), crashes=len(crashes), told=outcomes["told"], whole=outcomes["whole"])

"""`storylm tokenizer`: a vocabulary of one's own."""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.data.cleaning_report import CleaningReport
    from storylm.data.records import Record

HELD_OUT = 50  # where there is no validation split, each so-manieth story is kept for measuring
SAMPLE = 1000  # held-out stories that are measured


def tokenizer(
    source: str = typer.Argument(help="Stories: a named corpus, a Hub dataset, a file or a folder."),
    vocab_size: int = typer.Option(4096, help="Tokens in the vocabulary; at least 257."),
    out: Path = typer.Option(help="The folder to save it in: the name to give to --tokenizer afterwards."),
    max_stories: options.MaxStories = None,
) -> None:
    """Train a byte-level BPE tokenizer on stories, cleaned as `storylm prepare` cleans them.

    It writes tokenizer.json and tokenizer_config.json, which transformers reads too.
    """
    from itertools import islice

    from storylm.config.errors import UsageError
    from storylm.data.cleaning_report import CleaningReport
    from storylm.data.sources import open_source
    from storylm.text.files import has_tokenizer
    from storylm.text.training import train_bpe

    if has_tokenizer(out):
        raise UsageError(
            f"{out} has a tokenizer already, which models may depend on: delete it or choose another --out"
        )
    if max_stories is not None and max_stories < 1:
        raise UsageError(f"--max-stories {max_stories} is not allowed: it is 1 or more")
    corpus = open_source(source)
    began = time.perf_counter()
    held_out: list[str] = []
    report = CleaningReport()
    stories = _cleaned(_shown(islice(corpus.stories("train"), max_stories), report), report)
    if "validation" in corpus.splits:
        held_out += islice(_cleaned(corpus.stories("validation"), CleaningReport()), SAMPLE)
    else:
        stories = _without(stories, held_out)
    trained = train_bpe(stories, vocab_size, progress=sys.stderr.isatty())
    trained.save(out)

    size = sum(len(story.encode()) for story in held_out)
    tokens = sum(len(ids) for ids in trained.encode_batch(held_out))
    print(f"{trained.vocab_size:,} tokens in {time.perf_counter() - began:.1f} s, saved in {out}")
    if trained.vocab_size < vocab_size:
        print(f"fewer than the {vocab_size:,} asked for: the stories have no more pairs of tokens that occur twice")
    if tokens:
        print(f"{size / tokens:.3f} bytes per token on {len(held_out):,} stories that it was not trained on")


def _cleaned(records: "Iterable[Record]", report: "CleaningReport") -> Iterator[str]:
    from storylm.config.schema import CleaningConfig
    from storylm.data.cleaning import clean_record

    config = CleaningConfig()
    for record in records:
        story = clean_record(record, config, report)
        if story is not None:
            yield story


def _without(stories: Iterable[str], held_out: list[str]) -> Iterator[str]:
    """All but every fiftieth story, which go to `held_out` until it has enough."""
    for number, story in enumerate(stories, 1):
        if number % HELD_OUT == 0 and len(held_out) < SAMPLE:
            held_out.append(story)
        else:
            yield story


def _shown(records: "Iterable[Record]", report: "CleaningReport") -> "Iterator[Record]":
    """The same records; how many there have been is said on stderr: a live line on a terminal, what became of them
    (`report`) at the end.
    """
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from storylm.config.errors import DataError

    console = Console(stderr=True, highlight=False)
    count, began = 0, time.perf_counter()
    columns = (TextColumn("{task.description}  {task.completed:,} stories"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        for record in records:
            count += 1
            bar.update(task, completed=count)
            yield record
    seconds = time.perf_counter() - began
    if not report.kept:
        raise DataError(f"no stories to train a tokenizer on: {report.line()}")
    console.print(f"train: {report.line()}, in {seconds:.1f} s", soft_wrap=True, markup=False)

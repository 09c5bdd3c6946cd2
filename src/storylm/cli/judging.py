"""Judging a model by a corpus, with a live line on stderr."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.details import Breakdown
    from storylm.evaluation.likelihood import Likelihood, Listener
    from storylm.evaluation.per_story import PerStory
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer


def judge_in_full(
    model: "Transformer",
    tokenizer: "Tokenizer",
    corpus: "Corpus",
    batch_size: int = 16,
    stride: int | None = None,
    title: str = "judging",
    details: bool = False,
) -> "tuple[Likelihood, PerStory, Breakdown | None]":
    """The likelihood, every story's share of it and, with `details`, where in stories it comes from; in one pass."""
    from storylm.evaluation.details import Details
    from storylm.evaluation.per_story import PerStory

    per_story = PerStory(tokenizer.end_id)
    parts = Details(model, tokenizer) if details else None
    listeners = [per_story] if parts is None else [per_story, parts]
    likelihood = judge(model, tokenizer, corpus, batch_size, stride, title, listeners)
    return likelihood, per_story, None if parts is None else parts.breakdown()


def judge(
    model: "Transformer",
    tokenizer: "Tokenizer",
    corpus: "Corpus",
    batch_size: int = 16,
    stride: int | None = None,
    title: str = "judging",
    listeners: "Sequence[Listener]" = (),
) -> "Likelihood":
    """`evaluate` with progress; says afterwards what could not be read, and how fast it went."""
    from storylm.cli.counting import counting
    from storylm.evaluation.likelihood import evaluate

    total = sum(1 for _ in corpus)  # a pass of its own: reading costs little beside scoring, and memory stays bounded
    began = time.perf_counter()
    with counting(title, total) as live:

        def progress(stories: int, tokens: int) -> None:
            live(title, stories, total, _speed(stories, tokens, time.perf_counter() - began))

        likelihood = evaluate(
            model,
            tokenizer,
            corpus,
            batch_size=batch_size,
            stride=stride,
            progress=progress,
            listeners=listeners,
        ).checked()
    seconds = time.perf_counter() - began
    print(f"{seconds:.1f} s, {_speed(likelihood.stories, likelihood.tokens, seconds)}", file=sys.stderr)
    for what, counts in (("left out, unreadable", corpus.unreadable), ("read after a repair", corpus.repaired)):
        for reason, count in counts.most_common():
            print(f"{what}: {count:,} x {reason}", file=sys.stderr)
    if not tokenizer.lossless:
        print(
            f"tokenizer {tokenizer.name} does not give every text back: bits per byte are too low where it drops some",
            file=sys.stderr,
        )
    return likelihood


def _speed(stories: int, tokens: int, seconds: float) -> str:
    return f"{stories / seconds:,.0f} stories/s, {tokens / seconds:,.0f} tokens/s"

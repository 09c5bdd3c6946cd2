"""A pass over validation, shared out over the ranks of a run, that gives way when someone asks the run to stop."""

from collections.abc import Sequence
from typing import Any

import torch

from storylm.evaluation.likelihood import Likelihood, evaluate
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.training.distributed import Ranks
from storylm.training.signals import StopSignal


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Someone asked the run to stop: raised on all ranks, whichever was asked."""


def judge(
    model: Transformer, tokenizer: Tokenizer, stories: Sequence[str], ranks: Ranks, stop: StopSignal | None = None
) -> Likelihood:
    """The likelihood of `stories`, of which each rank scores every `size`-th. The same on all ranks.

    In fp32 whatever the run's precision, so that the figure is the one that `storylm evaluate` finds. Raises `Stopped`
    once `stop.requested`: whoever stops a run has no minutes to wait.
    """

    def heed(stories: int, tokens: int) -> None:
        if stop is not None and stop.requested:
            ranks.highest([True])  # the others ask when they are through
            raise Stopped

    def combine(totals: Sequence[float]) -> Sequence[float]:
        if any(ranks.highest([False])):
            raise Stopped
        return ranks.sum_up(totals)

    with uncompiled():
        return evaluate(model, tokenizer, stories[ranks.rank :: ranks.size], progress=heed, combine=combine)


def uncompiled() -> Any:
    """Compiled blocks would compile anew for every length of story; judging and telling run them as they are."""
    return torch.compiler.set_stance("force_eager")

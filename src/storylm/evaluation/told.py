"""Stories that a model tells, or that are given, judged beside real ones."""

from collections.abc import Callable
from dataclasses import dataclass

from storylm.evaluation.corpus import Corpus
from storylm.evaluation.instructions import beginnings
from storylm.evaluation.measure import Measure
from storylm.evaluation.telling import Manner, real_stories, tell_endings
from storylm.evaluation.text.judge import judge_stories
from storylm.evaluation.text.metric import Told
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

Count = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is, and of how much; 0 of 0 where that is not known."""


@dataclass(frozen=True)
class Stories:
    """What to judge: `count` stories that a model tells, or those `given`; beside which `real` ones, and whether they
    stand in `train`, the training stories."""

    count: int
    given: list[Told] | None = None
    real: Corpus | None = None
    train: Corpus | None = None


def judge_told(
    model: Transformer,
    tokenizer: Tokenizer,
    stories: Stories,
    manner: Manner,
    judge: tuple[Transformer, Tokenizer] | None,
    count: Count = lambda what, done, total: None,
) -> tuple[list[Measure], list[Told]]:
    """The figures of the stories, and the stories.

    Told ones begin as real ones do or, where there are none, with `beginnings`, over and over.
    """
    count("reading stories", 0, 0)
    real = None if stories.real is None else real_stories(stories.real, stories.count)
    told = stories.given
    if told is None:
        ready = beginnings()
        prompts = [ready[number % len(ready)] for number in range(stories.count)]
        if real is not None:
            prompts = [story.beginning for story in real.endings]
        told = tell_endings(
            model, tokenizer, prompts, manner, progress=lambda done: count("telling", done, len(prompts))
        )
    elif real is not None and not all(story.beginning for story in told):
        real = real.whole  # told from the start, so held against whole stories
    measures = judge_stories(
        told, real, judge, stories.train, manner.seed, lambda what: count(f"judging stories: {what}", 0, 0)
    )
    return measures, told

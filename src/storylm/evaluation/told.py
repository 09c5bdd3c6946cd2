"""Stories that a model tells, or that are given, judged beside real ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storylm.evaluation.corpus import Corpus
from storylm.evaluation.instructions import beginnings
from storylm.evaluation.measure import Measure
from storylm.evaluation.telling import Manner, real_stories, tell_endings
from storylm.evaluation.text.judge import Real, judge_stories
from storylm.evaluation.text.metric import Told
from storylm.evaluation.true_endings import as_long, as_told, true_endings
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
    eyes: tuple[Transformer, Tokenizer] | None,
    count: Count = lambda what, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[Measure], list[Told]]:
    """The figures of the stories, and the stories; `eyes` as in `judge_stories`.

    Told ones begin as real ones do or, where there are none, with `beginnings`, over and over. Real ones are held
    beside them no longer than these could be. `count` is told of each step, `say` why figures are missing.
    """
    count("reading stories", 0, 0)
    if stories.given is None:
        told, real = _tell(model, tokenizer, stories, manner, count)
    else:
        told = stories.given
        real = None if stories.real is None else as_long(told, tokenizer, _real_beside(told, stories.real, say))
    measures = judge_stories(
        told, real, eyes, stories.train, manner.seed, lambda what: count(f"judging stories: {what}", 0, 0)
    )
    return measures, told


def _tell(
    model: Transformer, tokenizer: Tokenizer, stories: Stories, manner: Manner, count: Count
) -> tuple[list[Told], Real | None]:
    """Stories that the model tells, and the real ones that begin like them, as far as it could tell these."""
    real = None if stories.real is None else real_stories(stories.real, stories.count)
    ready = beginnings()
    prompts = [ready[number % len(ready)] for number in range(stories.count)]
    if real is not None:
        prompts = [story.beginning for story in real.endings]
    told = tell_endings(model, tokenizer, prompts, manner, progress=lambda done: count("telling", done, len(prompts)))
    return told, None if real is None else as_told(model, tokenizer, real, manner.max_new_tokens)


def _real_beside(told: Sequence[Told], corpus: Corpus, say: Callable[[str], None]) -> Real:
    """Real stories to hold those of a file against: the true endings, if each begins as one of the corpus does."""
    if not all(story.beginning for story in told):
        return real_stories(corpus, len(told)).whole  # told from the start, so held against whole stories
    found = true_endings(corpus, told)
    if found is None:
        say(f"no BLEU and ROUGE: not every story begins as one of {corpus.name} does")
        return real_stories(corpus, len(told))
    return found

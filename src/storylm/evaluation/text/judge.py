"""All metrics of some told stories, each beside the same figure of real ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from storylm.config.errors import SetupError
from storylm.data.instruct import Ordered
from storylm.evaluation.likelihood import evaluate
from storylm.evaluation.measure import Measure
from storylm.evaluation.per_story import PerStory
from storylm.evaluation.text import diversity, ending, grammar, names, readability, repetition
from storylm.evaluation.text.mauve import LastState, mauve
from storylm.evaluation.text.memorised import Echoes, memorised
from storylm.evaluation.text.metric import Metric, Told, summed
from storylm.evaluation.text.overlap import overlap
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

METRICS: tuple[Metric, ...] = (
    *diversity.METRICS,
    *repetition.METRICS,
    *ending.METRICS,
    *names.METRICS,
    *readability.METRICS,
    *grammar.METRICS,
)
"""Those that need nothing but stories."""


@dataclass(frozen=True)
class Real:
    """Real stories to hold told ones against.

    `endings` are those whose beginnings were given, in the order of the told stories; `others` are further ones,
    neither beginning nor ending known to the teller.
    """

    endings: Sequence[Told]
    others: Sequence[Told]

    @property
    def whole(self) -> "Real":
        """The same stories from the start, with no beginning given."""
        return Real(*([Told("", story.text) for story in some] for some in (self.endings, self.others)))


def check_extra() -> None:
    """Raise `SetupError` now rather than after an hour, if the extra `eval` is not installed."""
    for module in ("harper", "sacrebleu", "rouge_score"):
        if find_spec(module) is None:
            raise SetupError(f"judging stories needs {module}: pip install 'storylm[eval]'")


def judge_stories(
    stories: Sequence[Told],
    real: Real | None = None,
    eyes: tuple[Transformer, Tokenizer] | None = None,
    train: Iterable[str] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda what: None,
    metrics: Sequence[Metric] | None = None,
) -> list[Measure]:
    """Every figure that can be had from what is given.

    Args:
        real: for reference values, and for what compares: BLEU, ROUGE and, with `eyes`, MAUVE.
            BLEU and ROUGE compare endings of the same beginning, so there are none where the two differ.
        eyes: a model to take MAUVE's features from; also says how likely it finds the stories. Only what was seen with
            the same eyes compares.
        train: the training stories, read once, for what is memorised.
        seed: of intervals and clusters.
        progress: is told what comes next.
        metrics: of those that need nothing but stories, only some.

    Raises:
        SetupError: the extra `eval` is not installed.
    """
    measures = []
    metrics = list(METRICS if metrics is None else metrics)
    if any(story.cut is not None for story in stories):
        metrics.append(ending.REACHED_LIMIT)
    for metric in metrics:
        progress(metric.name)
        measures.append(metric.measure(stories, real.endings if real else None, seed))
    told = [story.told for story in stories]
    true = [story.told for story in real.endings] if real else []
    if real and all(given := [story.beginning for story in stories]) and given == [s.beginning for s in real.endings]:
        progress("bleu and rouge")
        measures += overlap(told, true, seed)
    if eyes is not None:
        progress("mauve")
        measures += _seen(eyes, stories, real or Real([], []), seed)
    if train is not None:
        progress("training stories")
        echoes = Echoes([*told, *true])
        echoes.read(train, lambda count: progress(f"{count:,} training stories"))
        measures += memorised(echoes, len(told), seed)
    return measures


def _seen(eyes: tuple[Transformer, Tokenizer], stories: Sequence[Told], real: Real, seed: int) -> list[Measure]:
    """How likely the eyes find what was told, given its beginning, and MAUVE of it against further stories."""
    model, tokenizer = eyes
    groups = [[one for one in some if one.told.strip()] for some in (stories, real.endings, real.others)]
    texts = [Ordered(story.told, story.beginning) for group in groups for story in group]
    features, nats = LastState(), PerStory(tokenizer.end_id)
    if texts:
        stride = max(1, model.config.context // 2)  # a beginning may fill the context
        evaluate(model, tokenizer, texts, stride=stride, listeners=[features, nats])
    edges = np.cumsum([len(group) for group in groups])[:-1]
    bits_S2 = np.stack([nats.story_nats / np.log(2), nats.story_bytes], axis=1)
    told_2, true_2, _ = np.split(bits_S2, edges)
    measures = [summed("eyes_bits_per_byte", "reference", told_2, true_2 if len(true_2) else None, seed=seed)]
    if groups[2]:
        of_told, of_true, of_others = np.split(features.features, edges)
        value, reference = (mauve(some, of_others, seed) for some in (of_told, of_true))
        measures.append(Measure("mauve", value, "higher", None, reference))
    return measures

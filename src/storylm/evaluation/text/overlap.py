"""How much of the true ending a told one has in common: BLEU and ROUGE. Needs the extra `eval`.

A story may go on in many ways, so figures are low even for good endings; the reference is what the true ending of
*another* story scores, which any ending should beat.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from storylm.config.errors import SetupError
from storylm.evaluation.measure import Measure
from storylm.evaluation.text.metric import summed

ROUGES = ("rouge1", "rouge2", "rougeL")


def overlap(told: Sequence[str], true: Sequence[str], seed: int = 0) -> list[Measure]:
    """BLEU (Papineni et al. 2002; of all endings together, 0 to 100, sacrebleu's) and mean ROUGE F1 (Lin 2004).

    `told[i]` is held against `true[i]`, for the reference `true[i + 1]` against `true[i]`.

    Raises:
        SetupError: the extra `eval` is not installed.
    """
    others = [*true[1:], *true[:1]]
    measures = [Measure("bleu", corpus_bleu(told, true), "higher", None, corpus_bleu(others, true))]
    scores, floor = rouge(told, true), rouge(others, true)
    for name, *both in zip(ROUGES, scores.T, floor.T, strict=True):
        ours, theirs = (np.stack([figures, np.ones_like(figures)], axis=1) for figures in both)
        measures.append(summed(name.replace("rouge", "rouge_").lower(), "higher", ours, theirs, seed=seed))
    return measures


def corpus_bleu(told: Sequence[str], true: Sequence[str]) -> float:
    """BLEU of all told texts together against one true text each."""
    return float(_sacrebleu().corpus_bleu(list(told), [list(true)]).score)


def sentence_bleu(text: str, references: Sequence[str]) -> float:
    """BLEU of one text against several, smoothed exponentially as sacrebleu does."""
    return float(_sacrebleu().sentence_bleu(text, list(references)).score)


def rouge(told: Sequence[str], true: Sequence[str]) -> np.ndarray:
    """ROUGE-1, -2 and -L, F1 with stems, of each pair: [S, 3]."""
    scored = [_scorer().score(right, text) for text, right in zip(told, true, strict=True)]
    return np.array([[row[name].fmeasure for name in ROUGES] for row in scored]).reshape(-1, len(ROUGES))


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise SetupError("BLEU needs sacrebleu: pip install 'storylm[eval]'") from error
    return sacrebleu


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise SetupError("ROUGE needs rouge-score: pip install 'storylm[eval]'") from error
    return RougeScorer(list(ROUGES), use_stemmer=True)

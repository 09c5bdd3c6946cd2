"""What a model's hidden states say about a story, as one row of numbers: what a learned judge sees of it."""

# S stories, N tokens of one, D the model's width, F = 3 D + 2 features

from collections.abc import Sequence

import numpy as np
import torch

from storylm.evaluation.likelihood import Scored, evaluate
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer


class StateSummary:
    """A listener of `likelihood.evaluate`, without a stride.

    Of each story it keeps the mean, the spread and the last of the hidden states that its tokens were predicted from,
    and the mean and the spread of their nats.
    """

    def __init__(self) -> None:
        self._rows: dict[int, np.ndarray] = {}
        self._bytes: list[int] = []
        self._nats: dict[int, float] = {}

    def story(self, number: int, text: str, scored: str) -> None:
        self._bytes.append(len(scored.encode()))

    def tokens(self, scored: Scored) -> None:
        order = np.lexsort((scored.places, scored.stories))
        stories, firsts = np.unique(scored.stories[order], return_index=True)
        hidden_ND = scored.hidden[torch.from_numpy(order).to(scored.hidden.device)].double().cpu().numpy()
        nats_N = scored.nats[order]
        for story, first, end in zip(stories.tolist(), firsts, [*firsts[1:], len(order)], strict=True):
            states, nats = hidden_ND[first:end], nats_N[first:end]
            numbers = (states.mean(axis=0), states.std(axis=0), states[-1], [nats.mean(), nats.std()])
            self._rows[story], self._nats[story] = np.concatenate(numbers), float(nats.sum())

    @property
    def features_SF(self) -> np.ndarray:  # noqa: N802 - shapes are capitals
        """One row a story, in their order."""
        return np.array([self._rows[story] for story in range(len(self._bytes))])

    @property
    def bits_per_byte(self) -> np.ndarray:
        """Of each story, its end included: what the judge is to be better than."""
        nats = np.array([self._nats[story] for story in range(len(self._bytes))])
        return nats / np.log(2) / np.maximum(1, self._bytes)

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each story."""
        return np.array(self._bytes, np.float64)


def summarise(model: Transformer, tokenizer: Tokenizer, stories: Sequence[str]) -> StateSummary:
    """What the model sees of each story, of a long one as much as its context holds.

    Raises:
        DataError: there is no text.
    """
    summary = StateSummary()
    evaluate(model, tokenizer, [str(story) for story in stories], listeners=[summary])
    return summary

"""What a model answers to the items of a suite, and how many answers are right: `suites.py` says what counts."""

# P pairs of a beginning and a continuation

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storylm.evaluation.bootstrap import counted
from storylm.evaluation.likelihood import Scored, evaluate
from storylm.evaluation.measure import Measure
from storylm.evaluation.suites import Item, Suite
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

_FREE_TOKENS = 60  # more than a first sentence has, but for tokenizers of a few hundred


@dataclass(frozen=True)
class Answer:
    """What a model made of an item: nats of each continuation, and what it said freely."""

    item: Item
    nats_per_byte: tuple[float, ...]
    nats_per_token: tuple[float, ...]
    contrast: tuple[float, ...]
    """Nats per byte, less their mean over the beginnings of the group."""
    free: str

    def to_json(self) -> dict[str, Any]:
        """The item, what the model gave each continuation, and what it said."""
        return {
            "beginning": self.item.beginning,
            "continuations": list(self.item.continuations),
            "right": self.item.right,
            "nats_per_byte": list(self.nats_per_byte),
            "nats_per_token": list(self.nats_per_token),
            "contrast": list(self.contrast),
            "free": self.free,
            "told": self.told,
        }

    @property
    def right(self) -> bool:
        return int(np.argmin(self.nats_per_byte)) == self.item.right

    @property
    def right_per_token(self) -> bool:
        return int(np.argmin(self.nats_per_token)) == self.item.right

    @property
    def right_by_contrast(self) -> bool:
        return int(np.argmin(self.contrast)) == self.item.right

    @property
    def told(self) -> bool:
        return self.item.is_told(self.free)


def ask(model: Transformer, tokenizer: Tokenizer, suite: Suite) -> list[Answer]:
    """The model's answer to every item."""
    pairs = [(item.beginning, text) for item in suite.items for text in item.continuations]
    nats_P2 = continuation_nats(model, tokenizer, pairs)
    prompts = [item.beginning.removesuffix(" ") for item in suite.items]
    free = tell(model, tokenizer, prompts, Sampling(temperature=0), max_new_tokens=_FREE_TOKENS, truncate="left")
    of_item = np.split(nats_P2, np.cumsum([len(item.continuations) for item in suite.items])[:-1])
    usual = {
        group: np.mean(
            [rows[:, 0] for item, rows in zip(suite.items, of_item, strict=True) if item.group == group], axis=0
        )
        for group in {item.group for item in suite.items}
    }
    return [
        Answer(item, _tuple(rows[:, 0]), _tuple(rows[:, 1]), _tuple(rows[:, 0] - usual[item.group]), story.told)
        for item, rows, story in zip(suite.items, of_item, free, strict=True)
    ]


def _tuple(row: np.ndarray) -> tuple[float, ...]:
    return tuple(row.tolist())


def continuation_nats(model: Transformer, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Nats per byte and per token of each (beginning, continuation), the space between them included: [P, 2].

    The two are cut into tokens as one text; a continuation's tokens are those that stand for some of it. What does
    not fit the model's context is read in windows that move by half of it.
    """
    texts = [f"{beginning} {text}" for beginning, text in pairs]
    firsts = [
        int(np.searchsorted(spans[:, 1], len(beginning), side="right"))  # token spans end in order
        for (beginning, _), spans in zip(pairs, tokenizer.spans(texts), strict=True)
    ]
    heard = _Continuations(np.array(firsts), tokenizer.end_id)
    evaluate(model, tokenizer, texts, stride=max(1, model.config.context // 2), listeners=[heard])
    bytes_P = np.array([len(f" {text}".encode()) for _, text in pairs])
    return np.stack([heard.nats / bytes_P, heard.nats / heard.counts], axis=1)


class _Continuations:
    """A listener that sums what comes from each text's token number `firsts` on."""

    def __init__(self, firsts: np.ndarray, end_id: int):
        self._firsts, self._end_id = firsts, end_id
        self.nats, self.counts = np.zeros(len(firsts)), np.zeros(len(firsts), np.int64)

    def story(self, number: int, text: str, scored: str) -> None:
        pass

    def tokens(self, scored: Scored) -> None:
        kept = (scored.places >= self._firsts[scored.stories]) & (scored.targets != self._end_id)
        np.add.at(self.nats, scored.stories[kept], scored.nats[kept])
        np.add.at(self.counts, scored.stories[kept], 1)


def measures(suite: Suite, answers: Sequence[Answer], seed: int = 0) -> list[Measure]:
    """Accuracy per byte, per token, by contrast and freely, with intervals over groups; chance is the reference."""
    kinds = {
        "accuracy": "right",
        "accuracy_per_token": "right_per_token",
        "accuracy_by_contrast": "right_by_contrast",
        "told": "told",
    }
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.item.group, []).append(answer)

    def counts(kind: str) -> np.ndarray:
        return np.array([(sum(getattr(one, kind) for one in group), len(group)) for group in groups.values()])

    return [
        counted(f"{suite.name}_{name}", counts(kind), None if kind == "told" else suite.chance, seed)
        for name, kind in kinds.items()
    ]

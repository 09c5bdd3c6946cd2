"""How well a model predicts stories: nats per token, perplexity and bits per byte.

Bits per byte = nats of the text's tokens / ln 2 / UTF-8 bytes of the text: the one figure that can be
compared across tokenizers. The convention, to be stated beside every figure:

- each story is scored from its first token, given only the start token;
- special tokens (the end of the story) are left out and reported beside it, as not every model has one;
- the bytes are those of the source text, and every story counts once;
- the context is the model's own. Of a longer story only the first `context` tokens are scored, the bytes
  are theirs, and it counts as truncated. With a `stride` every token of it is scored, exactly once, in
  windows that move by so many tokens (`evaluation.windows`): its later tokens are then predicted from less
  than all that stands before them;
- a story that has an order (`data.instruct.Ordered`) is predicted given that too, which is itself neither
  scored nor counted.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.data.instruct import order_of
from storylm.evaluation.windows import Window, batches, padded, windows
from storylm.model.loss import IGNORED, token_nats
from storylm.model.store import check_vocabulary
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

CONVENTION = (
    "Each story is scored from its first token, given only the start token and, where it has one, its order; the end "
    "token is left out; bytes are those of the scored text in UTF-8."
)
"""In a sentence, to stand beside a figure."""
STORIES_AT_ONCE = 2048  # sorted by length together; what is in memory at a time
Progress = Callable[[int, int], None]  # stories and tokens scored so far
Combine = Callable[[Sequence[float]], Sequence[float]]  # totals of these stories to those of all


@dataclass(frozen=True)
class Scored:
    """Some tokens that were scored, N of them, in no particular order; end tokens are among them."""

    stories: np.ndarray  # [N]
    """Which story each is of, counted from 0 in the order they came."""
    places: np.ndarray  # [N]
    """Which token of its story, counted from 0."""
    targets: np.ndarray  # [N]
    nats: np.ndarray  # [N]
    """In fp64."""
    hidden: Tensor  # [N, D]
    """What the model predicted each from, on its device."""


class Listener(Protocol):
    """Hears of every story and token as they are scored, for figures beyond the totals."""

    def story(self, number: int, text: str, scored: str) -> None:
        """A story, all of it and as much as is scored. It comes before its tokens, and in the order of `number`."""
        ...

    def tokens(self, scored: Scored) -> None:
        """Some scored tokens."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """Totals over stories; what one asks for is divided once, at the end.

    `nats` and `tokens` are those of the text, `special_nats` and `special_tokens` those of the end tokens,
    `bytes` the scored text's in UTF-8. `truncated_stories` are longer than `context` tokens: the rest of them
    was not scored, or, with a `stride`, scored in windows so many tokens apart.
    """

    nats: float
    tokens: int
    bytes: int
    stories: int
    truncated_stories: int
    special_nats: float
    special_tokens: int
    context: int
    stride: int | None

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """e to the nats per token; inf where that is too large a number."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 709 else math.inf

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def checked(self) -> "Likelihood":
        """Itself, as a figure to be shown or compared.

        Raises:
            CheckpointError: it is no number, as of a model that diverged.
        """
        if not math.isfinite(self.nats):
            raise CheckpointError(
                f"the model's predictions are not numbers (bits per byte: {self.bits_per_byte}): its weights are "
                "damaged, or training diverged; take an earlier checkpoint"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Every figure and total, as JSON's types."""
        figures = ("bits_per_byte", "nats_per_token", "perplexity")
        return {**{name: getattr(self, name) for name in figures}, **asdict(self)}


def evaluate(
    model: Transformer,
    tokenizer: Tokenizer,
    stories: Iterable[str] | str,
    *,
    batch_size: int = 16,
    stride: int | None = None,
    progress: Progress | None = None,
    combine: Combine | None = None,
    listeners: Sequence[Listener] = (),
) -> Likelihood:
    """Score every story once; the convention stands at the top of this file.

    Args:
        stories: several, or one as a plain string.
        batch_size: how many rows of the model's context are scored at once; of shorter stories there are
            as many more. The result does not depend on it.
        stride: score stories longer than the context to their end, in windows that move by so many tokens
            (1 shows each token as much as the model can see, at the price of a pass per token).
        progress: called with the stories and tokens done, after every batch.
        combine: where several processes share the stories: given the totals of those here, returns the totals of
            all. A process may then have none.
        listeners: hear of every story and token in the same pass (`evaluation.per_story`, `evaluation.details`).

    >>> evaluate(model, tokenizer, ["Once upon a time..."]).bits_per_byte      # doctest: +SKIP
    0.914

    Raises:
        UsageError: a setting outside its range.
        DataError: there is no text to score.
        CheckpointError: the tokenizer has more tokens than the model.
    """
    context = model.config.context
    if stride is not None and not 1 <= stride <= context:
        raise UsageError(f"stride={stride} is not allowed: it is from 1 to the model's context, {context}")
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size} is not allowed: it is 1 or more")
    check_vocabulary(model, tokenizer)
    stories = [stories] if isinstance(stories, str) else stories
    totals, done = _Totals(), 0
    training = model.training
    model.eval()
    try:
        for group in _groups(stories, STORIES_AT_ONCE):
            rows: list[Window] = []
            for text, ids in zip(group, tokenizer.encode_batch(group), strict=True):
                order_ids = tokenizer.encode(order_of(text))
                room = max(0, context - len(order_ids))
                cut = len(ids) > room
                scored = text if stride or not cut else _beginning(tokenizer, ids[:room])
                for listener in listeners:
                    listener.story(totals.stories, text, scored)
                rows += windows(
                    np.concatenate((order_ids, ids)),
                    tokenizer.start_id,
                    tokenizer.end_id,
                    context,
                    stride,
                    totals.stories,
                    given=len(order_ids),
                )
                totals.add_story(scored, cut)
            for batch in batches(rows, batch_size * context):
                hidden_ND, nats_N, targets_N = _score(model, batch)
                totals.add_nats(nats_N, targets_N, tokenizer.end_id)
                if listeners and len(targets_N):  # orders may leave stories no room
                    tokens = Scored(*_places(batch), targets_N.numpy(), nats_N.numpy(), hidden_ND)
                    for listener in listeners:
                        listener.tokens(tokens)
                done += sum(window.last for window in batch)
                if progress is not None:
                    progress(done, totals.tokens)
    finally:
        model.train(training)
    if combine is not None:
        here = asdict(totals)
        of_all = zip(here.items(), combine(list(here.values())), strict=True)
        totals = _Totals(**{name: type(value)(total) for (name, value), total in of_all})
    if totals.tokens == 0:
        raise DataError(f"no text to score: {totals.stories} stories, {totals.bytes} bytes")
    return Likelihood(**asdict(totals), context=context, stride=stride)


@dataclass
class _Totals:
    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    stories: int = 0
    truncated_stories: int = 0
    special_nats: float = 0.0
    special_tokens: int = 0

    def add_story(self, text: str, cut: bool) -> None:
        self.stories += 1
        self.bytes += len(text.encode())
        self.truncated_stories += cut

    def add_nats(self, nats_N: Tensor, targets_N: Tensor, end_id: int) -> None:
        special_N = targets_N == end_id  # the text's own tokens never are: `Tokenizer.encode`
        self.nats += float(nats_N[~special_N].sum())
        self.tokens += int((~special_N).sum())
        self.special_nats += float(nats_N[special_N].sum())
        self.special_tokens += int(special_N.sum())


@torch.inference_mode()
def _score(model: Transformer, batch: list[Window]) -> tuple[Tensor, Tensor, Tensor]:
    """What a batch's targets are predicted from [N, D], their nats [N], and the targets [N]; row by row."""
    tokens_BT, targets_BT = padded(batch, model.device)
    scored_BT = targets_BT != IGNORED
    hidden_ND = model.hidden(tokens_BT)[scored_BT]
    targets_N = targets_BT[scored_BT]
    # Summed in fp64, and there because Apple's GPUs have none.
    return hidden_ND, token_nats(hidden_ND, model.head_weight, targets_N).cpu().double(), targets_N.cpu()


def _places(batch: list[Window]) -> tuple[np.ndarray, np.ndarray]:
    """The story [N] of each target of a batch, and which token of it [N]; row by row."""
    kept = [np.flatnonzero(window.targets != IGNORED) for window in batch]
    stories = [np.full(len(places), window.story) for window, places in zip(batch, kept, strict=True)]
    return np.concatenate(stories), np.concatenate([w.first + places for w, places in zip(batch, kept, strict=True)])


def seen(tokenizer: Tokenizer, story: str, context: int) -> str:
    """As much of a story as a context holds after its order: what is scored of it without a stride."""
    ids, room = tokenizer.encode(story), max(0, context - len(tokenizer.encode(order_of(story))))
    return story if len(ids) <= room else _beginning(tokenizer, ids[:room])


def _beginning(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> str:
    """The text of a story's first tokens, without a last character that is not all there."""
    return tokenizer.decode(ids).rstrip("\ufffd")


def _groups(stories: Iterable[str], size: int) -> Iterator[list[str]]:
    stories = iter(stories)
    while group := list(islice(stories, size)):
        yield group

"""What all that looks inside shares: a text as the model reads it, and an ear at some of the model's parts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from storylm.config.errors import DataError
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

LONGEST = 256  # tokens of a text that are read: attention is a square of them


def read(model: Transformer, tokenizer: Tokenizer, text: str, longest: int = LONGEST) -> list[int]:
    """The start token and the first tokens of `text`, as many as fit `longest` and the model's context."""
    return [tokenizer.start_id, *tokenizer.encode(text)][: min(longest, model.config.context)]


def read_all(model: Transformer, tokenizer: Tokenizer, stories: Sequence[str], at_least: int = 2) -> list[list[int]]:
    """Every story as tokens, without those that have fewer than `at_least`.

    Raises:
        DataError: none is left.
    """
    texts = [tokens for story in stories if len(tokens := read(model, tokenizer, story)) >= at_least]
    if not texts:
        raise DataError(f"of {len(stories):,} stories none has {at_least} tokens: give longer ones")
    return texts


def token_texts(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """Each token as it stands in a story, with its space."""
    known = {token: tokenizer.token_text(token) for token in set(tokens)}
    return [known[token] for token in tokens]


@contextmanager
def inputs_of(model: Transformer, parts: Sequence[nn.Module], hear: Callable[[int, Tensor], Any]) -> Iterator[None]:
    """Within the block `model` is in `eval()` and `hear` is told the number of a part and its first input, as often as
    that part computes."""

    def hook(number: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda part, given: (hear(number, given[0]), None)[1]

    hooks = [part.register_forward_pre_hook(hook(number)) for number, part in enumerate(parts)]
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for each in hooks:
            each.remove()

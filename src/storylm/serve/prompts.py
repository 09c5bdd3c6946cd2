"""What a model reads before it tells: a request's prompt, given as text or as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from storylm.config.errors import UsageError
from storylm.serve.batcher import Host


@dataclass(frozen=True)
class Prompt:
    """A prompt's text, and the tokens that the model reads, of which the first `added` were not in the request."""

    text: str
    ids: list[int]
    added: int


def read_prompt(host: Host, prompt: str | Sequence[int], told: Sequence[int] = ()) -> Prompt:
    """A prompt as this model reads it: after the start token, unless its ids begin with that.

    `told` are tokens after it that are no part of its text.

    Raises:
        UsageError: a token that there is not, or more tokens than the context holds.
    """
    tokenizer, context = host.tokenizer, host.model.config.context
    text, own = (prompt, tokenizer.encode(prompt)) if isinstance(prompt, str) else (None, list(prompt))
    added = int(text is not None or own[0] != tokenizer.start_id)
    ids = [tokenizer.start_id] * added + own
    highest = max(*ids, *told, 0)
    if highest >= tokenizer.vocab_size:
        raise UsageError(f"token {highest} is not one of the {tokenizer.vocab_size} of {host.name}")
    if len(ids) + len(told) > context:
        raise UsageError(
            f"prompt is {len(ids) + len(told)} tokens but the model's context is {context}, a start token included: "
            f"leave out its beginning, so that {context - 1} remain"
        )
    return Prompt(tokenizer.decode(own) if text is None else text, ids, added)

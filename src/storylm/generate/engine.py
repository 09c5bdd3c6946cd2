"""Telling stories: prompts in, whole stories out, all at once or piece by piece."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from storylm.config.errors import CheckpointError, UsageError
from storylm.generate.decoder import Decoder
from storylm.generate.sampling import Sampling
from storylm.generate.text import TextStream
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

Truncate = Literal["left"] | None


@dataclass(frozen=True)
class _Row:
    """One story to be told."""

    prompt: str
    ids: list[int]
    seed: int


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    samples: int = 1,
    stop: str | Sequence[str] = (),
    batch_size: int = 32,
    truncate: Truncate = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Tell `samples` stories from each prompt; a story is the prompt and what follows it.

    Stories come in the order of the prompts, samples of one prompt side by side. Sample j of any prompt is
    drawn with seed `seed + j` and from nothing else, so a prompt and a seed make the same story alone, in
    any batch, or streamed, on one kind of device. (To rounding: a batch may add up in another order, which
    now and then tips the balance between two tokens that are equally good to six digits.)

    A story ends at the end-of-story token, at a `stop` string (not part of the story), after
    `max_new_tokens`, or where the model's context is full. An empty prompt starts a story.

    Args:
        temperature: 0 tells the likeliest token always, 1 draws as the model predicts.
        top_k, top_p, min_p, repetition_penalty: see `generate.sampling`; None (1 for the penalty) is off.
        batch_size: stories told at once.
        truncate: "left" drops the beginning of a prompt that does not fit the context; None refuses it.
        on_text: called with (number of the story, new text) as text comes, after the prompt.

    >>> generate(model, tokenizer, "Once upon a time", temperature=0)           # doctest: +SKIP
    ['Once upon a time, there was a little girl named Lily. ...']

    Raises:
        UsageError: a setting outside its range, or a prompt longer than the context.
        CheckpointError: the tokenizer has more tokens than the model.
    """
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    if samples < 1 or batch_size < 1:
        raise UsageError(f"samples={samples} and batch_size={batch_size}: both are 1 or more")
    rows = [
        _Row(prompt, _prompt_ids(model, tokenizer, prompt, max_new_tokens, truncate), seed + sample)
        for prompt in ([prompts] if isinstance(prompts, str) else prompts)
        for sample in range(samples)
    ]
    stories = [row.prompt for row in rows]
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        for row, text in _tell(model, tokenizer, batch, sampling, max_new_tokens, _stop_strings(stop)):
            stories[first + row] += text
            if on_text is not None:
                on_text(first + row, text)
    return stories


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    truncate: Truncate = None,
) -> Iterator[str]:
    """One story, piece by piece, the prompt first: the pieces joined are what `generate` returns.

    Whole characters only. The settings and errors are those of `generate`; while the iterator is in use
    the model is in evaluation mode.
    """
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    row = _Row(prompt, _prompt_ids(model, tokenizer, prompt, max_new_tokens, truncate), seed)
    pieces = _tell(model, tokenizer, [row], sampling, max_new_tokens, _stop_strings(stop))

    def prompt_first() -> Iterator[str]:  # a function within, so that errors come before the first piece is asked for
        yield prompt
        for _, text in pieces:
            yield text

    return prompt_first()


def _tell(
    model: Transformer,
    tokenizer: Tokenizer,
    rows: Sequence[_Row],
    sampling: Sampling,
    max_new_tokens: int,
    stop: Sequence[str],
) -> Iterator[tuple[int, str]]:
    """(row, new text) as it comes, until every row's story is over."""
    ends = {tokenizer.start_id, tokenizer.end_id}
    texts = [TextStream(tokenizer, row.ids, stop) for row in rows]
    # The token drawn when the context is full is still told: it need not be read again.
    left = [min(max_new_tokens, model.config.context - len(row.ids) + 1) for row in rows]
    training = model.training
    model.eval()
    try:
        prompts, seeds = [row.ids for row in rows], [row.seed for row in rows]
        decoder = Decoder(model, prompts, seeds, sampling, tokenizer.vocab_size, max_new_tokens)
        while decoder.rows:
            going_on = []
            for row, token in decoder.draw():
                left[row] -= 1
                text = "" if token in ends else texts[row].add(token)
                if token in ends or left[row] == 0 or texts[row].stopped:
                    text += texts[row].finish()
                else:
                    going_on.append(row)
                if text:
                    yield row, text
            decoder.advance(going_on)
    finally:
        model.train(training)


def _prompt_ids(
    model: Transformer, tokenizer: Tokenizer, prompt: str, max_new_tokens: int, truncate: Truncate
) -> list[int]:
    context = model.config.context
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens={max_new_tokens} is not allowed: it is 1 or more")
    if truncate not in (None, "left"):
        raise UsageError(f"truncate={truncate!r} is not allowed: it is 'left' or None")
    check_vocabulary(model, tokenizer)
    ids = [tokenizer.start_id, *tokenizer.encode(prompt)]
    if len(ids) <= context:
        return ids
    if truncate is None:
        raise UsageError(
            f"prompt is {len(ids)} tokens but the model's context is {context}: shorten it, or pass --truncate left"
        )
    # Room for the story as far as that leaves half the context to the prompt.
    return ids[-max(context - max_new_tokens, (context + 1) // 2) :]


def check_vocabulary(model: Transformer, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer with more tokens than the model; a model may have more (padding of its table).

    Raises:
        CheckpointError: they do not belong together.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} tokens but the model only {model.config.vocab_size}: "
            "they do not belong together; use the tokenizer the model was trained with"
        )


def _stop_strings(stop: str | Sequence[str]) -> list[str]:
    strings = [stop] if isinstance(stop, str) else list(stop)
    if "" in strings:
        raise UsageError("a stop string is empty: leave it out, or give the text to stop at")
    return strings

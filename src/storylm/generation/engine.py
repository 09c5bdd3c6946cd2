"""Telling stories: prompts in, whole stories out, all at once or piece by piece.

generate(model, tokenizer, prompts, ...)            -> list[str]
stream(model, tokenizer, prompt, ...)               -> pieces of one story, as they come
tell(model, tokenizer, prompts, Sampling(...), ...) -> list[Story], which also say how and why they ended
"""

from collections.abc import Callable, Iterator, Sequence

from storylm.config.errors import UsageError
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, Truncate, read_prompt, tell_together
from storylm.model.store import check_vocabulary
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer


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
    precision: str = "fp32",
    truncate: Truncate = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Tell `samples` stories from each prompt; a story is the prompt and what follows it.

    Stories come in the order of the prompts, samples of one prompt side by side. Sample j of any prompt is
    drawn with seed `seed + j` and from nothing else, so a prompt and a seed make the same story alone, in
    any batch, or streamed, on any number of threads. (On a GPU, or without a C++ compiler, to rounding: a batch may add
    up in another order, which now and then tips the balance between two tokens that are equally good to six digits.)
    A reader of the model's weights is kept for the next call, see `generation.lending`.

    A story ends at the end-of-story token, at a `stop` string (not part of the story), after
    `max_new_tokens`, or where the model's context is full. An empty prompt starts a story.

    Args:
        temperature: 0 tells the likeliest token always, 1 draws as the model predicts.
        top_k, top_p, min_p, repetition_penalty: see `generation.sampling`; None (1 for the penalty) is off.
        batch_size: stories told at once; where one is over the next begins.
        precision: of the matrices, "fp32", "bf16" or "int8"; see `generation.reading`.
        truncate: "left" drops the beginning of a prompt that does not fit the context; None refuses it.
        on_text: called with (number of the story, new text) as text comes, after the prompt.

    >>> generate(model, tokenizer, "Once upon a time", temperature=0)           # doctest: +SKIP
    ['Once upon a time, there was a little girl named Lily. ...']

    Raises:
        UsageError: a setting outside its range, or a prompt longer than the context.
        CheckpointError: the tokenizer has more tokens than the model.
    """
    stories = tell(
        model,
        tokenizer,
        prompts,
        Sampling(repetition_penalty, temperature, top_k, top_p, min_p),
        max_new_tokens=max_new_tokens,
        seed=seed,
        samples=samples,
        stop=stop,
        batch_size=batch_size,
        precision=precision,
        truncate=truncate,
        on_text=on_text,
    )
    return [story.text for story in stories]


def tell(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: str | Sequence[str],
    sampling: Sampling,
    *,
    max_new_tokens: int = 256,
    seed: int = 0,
    samples: int = 1,
    stop: str | Sequence[str] = (),
    batch_size: int = 32,
    precision: str = "fp32",
    truncate: Truncate = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[Story]:
    """What `generate` does, with all that is known of each story besides its text.

    >>> tell(model, tokenizer, "Once", Sampling(temperature=0))[0].ended        # doctest: +SKIP
    'end'
    """
    if samples < 1 or batch_size < 1:
        raise UsageError(f"samples={samples} and batch_size={batch_size}: both are 1 or more")
    stories = _stories(model, tokenizer, prompts, max_new_tokens, seed, samples, truncate)
    stops = _stop_strings(stop)
    for row, text in tell_together(model, tokenizer, stories, sampling, max_new_tokens, stops, batch_size, precision):
        if on_text is not None:
            on_text(row, text)
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
    precision: str = "fp32",
    truncate: Truncate = None,
) -> Iterator[str]:
    """One story, piece by piece, the prompt first: the pieces joined are what `generate` returns.

    Whole characters only. The settings and errors are those of `generate`.
    """
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    stories = _stories(model, tokenizer, prompt, max_new_tokens, seed, 1, truncate)
    stops = _stop_strings(stop)
    pieces = tell_together(
        model, tokenizer, stories, sampling, max_new_tokens, stops, batch_size=1, precision=precision
    )

    def prompt_first() -> Iterator[str]:  # a function within, so that errors come before the first piece is asked for
        yield prompt
        for _, text in pieces:
            yield text

    return prompt_first()


def _stories(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: str | Sequence[str],
    max_new_tokens: int,
    seed: int,
    samples: int,
    truncate: Truncate,
) -> list[Story]:
    """The stories to tell, nothing told yet."""
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens={max_new_tokens} is not allowed: it is 1 or more")
    if truncate not in (None, "left"):
        raise UsageError(f"truncate={truncate!r} is not allowed: it is 'left' or None")
    check_vocabulary(model, tokenizer)
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    ids = [read_prompt(model, tokenizer, prompt, max_new_tokens, truncate) for prompt in prompts]
    return [
        Story(prompt, seed + sample, prompt_ids)
        for prompt, prompt_ids in zip(prompts, ids, strict=True)
        for sample in range(samples)
    ]


def _stop_strings(stop: str | Sequence[str]) -> list[str]:
    strings = [stop] if isinstance(stop, str) else list(stop)
    if "" in strings:
        raise UsageError("a stop string is empty: leave it out, or give the text to stop at")
    return strings

"""Stories told side by side: from prompts to tokens, and from tokens to whole characters, until each one ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from storylm.config.errors import UsageError
from storylm.generation.decoder import Decoder, Draft
from storylm.generation.reading import build_reader
from storylm.generation.sampling import Sampling
from storylm.generation.text import TextStream
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

Truncate = Literal["left"] | None
Ended = Literal["end", "stop", "length", "context"]
"""Why a story is over: the model ended it, a stop string came, `max_new_tokens` are told, the context is full."""


@dataclass
class Story:
    """A story being told; with `ended`, told to its end.

    `prompt_ids` is what the model reads before it, and `tokens` how many it drew: the one that ended the story
    and those of a stop string included, although they leave no text.
    """

    prompt: str
    seed: int
    prompt_ids: list[int] = field(repr=False)
    told: str = ""
    tokens: int = 0
    ended: Ended | None = None

    @property
    def text(self) -> str:
        """The prompt and what follows it."""
        return self.prompt + self.told


def tell_together(
    model: Transformer,
    tokenizer: Tokenizer,
    stories: Sequence[Story],
    sampling: Sampling,
    max_new_tokens: int,
    stop: Sequence[str],
    batch_size: int,
    precision: str = "fp32",
) -> Iterator[tuple[int, str]]:
    """(index of the story, its new text) as it comes, until all are over; so many at once. The stories grow."""
    if not stories:
        return
    ends, context = {tokenizer.start_id, tokenizer.end_id}, model.config.context
    capacity = min(context, max(len(story.prompt_ids) for story in stories) + max_new_tokens)
    reader = build_reader(model, min(batch_size, len(stories)), capacity, precision)
    decoder, rows = Decoder(reader, tokenizer.vocab_size), {}
    texts = [TextStream(tokenizer, story.prompt_ids, stop) for story in stories]
    for row, story in enumerate(stories):
        draft = Draft(story.prompt_ids, story.seed, sampling)
        rows[draft] = row
        decoder.add(draft)
    training = model.training
    model.eval()
    try:
        while decoder:
            over = []
            for draft, token in decoder.step():
                row = rows[draft]
                story, text = stories[row], ""
                story.tokens += 1
                if token in ends:
                    story.ended = "end"
                else:
                    text = texts[row].add(token)
                    if story.tokens == max_new_tokens:
                        story.ended = "length"
                    # The token drawn when the context is full is still told: it need not be read again.
                    elif len(story.prompt_ids) + story.tokens > context:
                        story.ended = "context"
                if story.ended:
                    text += texts[row].finish()
                if texts[row].stopped:
                    story.ended = "stop"
                if story.ended:
                    over.append(draft)
                story.told += text
                if text:
                    yield row, text
            decoder.end(over)
    finally:
        model.train(training)


def read_prompt(
    model: Transformer, tokenizer: Tokenizer, prompt: str, max_new_tokens: int, truncate: Truncate
) -> list[int]:
    """The start token and the prompt's tokens, as many as the context holds.

    Raises:
        UsageError: the prompt is longer than the context and `truncate` is None.
    """
    context = model.config.context
    ids = [tokenizer.start_id, *tokenizer.encode(prompt)]
    if len(ids) <= context:
        return ids
    if truncate is None:
        raise UsageError(
            f"prompt is {len(ids)} tokens but the model's context is {context}: shorten it, or pass --truncate left"
        )
    # Room for the story as far as that leaves half the context to the prompt.
    return ids[-max(context - max_new_tokens, (context + 1) // 2) :]

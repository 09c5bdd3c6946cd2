"""Stories told side by side: from prompts to tokens, and from tokens to whole characters, until each one ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from storylm.config.errors import UsageError
from storylm.generation.decoder import Decoder, Draft
from storylm.generation.lending import lent_reader
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


class Telling:
    """A story on its way from tokens to text; `draft` is what a `Decoder` draws for."""

    def __init__(
        self,
        story: Story,
        tokenizer: Tokenizer,
        sampling: Sampling,
        context: int,
        limit: int,
        stop: Sequence[str] = (),
        watch: int | None = None,
    ):
        """`limit` is the most tokens to be drawn, `context` the model's; `watch` is the draft's."""
        self.story, self.draft = story, Draft(story.prompt_ids, story.seed, sampling, watch)
        self._text = TextStream(tokenizer, story.prompt_ids, stop)
        self._ends, self.limit = {tokenizer.start_id, tokenizer.end_id}, limit
        # The token drawn when the context is full is still told: it need not be read again.
        self._room = context - len(story.prompt_ids) + 1

    def add(self, token: int) -> str:
        """The text that is certain with this token; the story is over where `story.ended` says why."""
        story, text = self.story, ""
        story.tokens += 1
        if token in self._ends:
            story.ended = "end"
        else:
            text = self._text.add(token)
            if story.tokens == self.limit:
                story.ended = "length"
            elif story.tokens == self._room:
                story.ended = "context"
        if story.ended:
            text += self._text.finish()
        if self._text.stopped:
            story.ended = "stop"
        story.told += text
        return text


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
    context = model.config.context
    capacity = min(context, max(len(story.prompt_ids) for story in stories) + max_new_tokens)
    tellings = [Telling(story, tokenizer, sampling, context, max_new_tokens, stop) for story in stories]
    rows = {telling.draft: row for row, telling in enumerate(tellings)}
    with lent_reader(model, min(batch_size, len(stories)), capacity, precision) as reader:
        decoder = Decoder(reader, tokenizer.vocab_size)
        for draft in rows:
            decoder.add(draft)
        while decoder:
            drawn = decoder.step()
            for draft, token in drawn:
                if text := tellings[rows[draft]].add(token):
                    yield rows[draft], text
            decoder.end([draft for draft, _ in drawn if stories[rows[draft]].ended])


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

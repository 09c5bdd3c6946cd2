"""One story of a request as OpenAI's API tells it: `choices` has an entry for each."""

from typing import Any

from storylm.generation.draft import Likelihood
from storylm.serve.batcher import Event, Job
from storylm.serve.places import Places
from storylm.serve.prompts import Prompt
from storylm.serve.requests import CompletionRequest

REASONS = {"end": "stop", "stop": "stop", "length": "length", "context": "length"}


class Choice:
    """What was said of a job so far, so that the pieces of a stream come to what is said at once."""

    def __init__(self, request: CompletionRequest, index: int, prompt: Prompt, job: Job):
        self._index, self._prompt, self._job = index, prompt, job
        self._story, self._draft, self._tokenizer = job.telling.story, job.telling.draft, job.host.tokenizer
        self._echo, self._tells_tokens = bool(request.echo), request.logprobs is not None
        self._said_tokens, self._begun = 0, False
        self._places: Places | None = None  # not before they are needed: most requests want no tokens

    def whole(self) -> dict[str, Any]:
        """The choice with all of it."""
        return self.piece(Event(self._story.told, self._story.tokens, self._story.ended or "length"))

    def piece(self, event: Event) -> dict[str, Any]:
        """The choice with what is new."""
        echoes = self._echo and not self._begun
        said: dict[str, Any] = {"index": self._index, "text": self._prompt.text * echoes + event.text, "logprobs": None}
        if self._tells_tokens:
            said |= self._tokens(echoes, event.tokens)
        self._begun, self._said_tokens = True, event.tokens
        return said | {"finish_reason": REASONS.get(event.ended or "")}

    def _tokens(self, echoes: bool, count: int) -> dict[str, Any]:
        """The prompt's tokens, if it `echoes`, and those that are new when `count` were told."""
        prompt, draft = self._prompt, self._draft
        if self._places is None:
            self._places = Places(self._tokenizer, prompt.text, prompt.ids)
        rows: list[tuple[int, int, Likelihood | None]] = []
        if echoes:
            places = [first for first, _ in self._places.prompt]
            rows += list(zip(prompt.ids, places, self._job.prompt_likelihoods, strict=True))[prompt.added :]
        begins = 0 if self._echo else len(prompt.text)
        for number in range(self._said_tokens, count):
            token = draft.drawn[number]
            first, _ = self._places.add(token)
            rows.append((token, max(0, first - begins), draft.likelihoods[number]))
        name = self._tokenizer.pieces.name
        return {
            "logprobs": {
                "tokens": [name(token) for token, _, _ in rows],
                "token_logprobs": [None if likelihood is None else likelihood.nats for _, _, likelihood in rows],
                "top_logprobs": [self._alternatives(token, likelihood) for token, _, likelihood in rows],
                "text_offset": [place for _, place, _ in rows],
            },
            "token_ids": [token for token, _, _ in rows],
        }

    def _alternatives(self, token: int, likelihood: Likelihood | None) -> dict[str, float] | None:
        """The likeliest tokens in a token's place and itself, by name."""
        if likelihood is None:
            return None
        return {
            self._tokenizer.pieces.name(id): nats for id, nats in {**likelihood.instead, token: likelihood.nats}.items()
        }

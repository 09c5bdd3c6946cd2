"""Requests for completions as jobs, and what comes of jobs as OpenAI's API tells it."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from storylm.config.errors import UsageError
from storylm.generation.draft import Likelihood
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, Telling, read_prompt
from storylm.serve.batcher import Event, Host, Job
from storylm.serve.requests import CompletionRequest

REASONS = {"end": "stop", "stop": "stop", "length": "length", "context": "length"}


@dataclass
class Completion:
    """A request on its way: its jobs in the order of its choices."""

    request: CompletionRequest
    host: Host
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises `UsageError` where a prompt does not fit the model."""
        request = self.request
        seed = secrets.randbits(31) if request.seed is None else request.seed
        for prompt in request.prompts:
            ids = self._ids(prompt)
            added = isinstance(prompt, str) or len(ids) > len(prompt)
            text = prompt if isinstance(prompt, str) else self.host.tokenizer.decode(prompt)
            self.jobs += [self._job(text, ids, added, seed + number) for number in range(request.n or 1)]
        self.choices = [_Choice(self, index, job) for index, job in enumerate(self.jobs)]

    def _ids(self, prompt: str | list[int]) -> list[int]:
        """What the model reads: the start token and the prompt's, which may begin with it."""
        model, tokenizer = self.host.model, self.host.tokenizer
        if isinstance(prompt, str):
            return read_prompt(model, tokenizer, prompt, max_new_tokens=1, truncate=None)
        if max(prompt) >= tokenizer.vocab_size:
            raise UsageError(f"token {max(prompt)} is not one of the {tokenizer.vocab_size} of {self.host.name}")
        ids = prompt if prompt[0] == tokenizer.start_id else [tokenizer.start_id, *prompt]
        if len(ids) > model.config.context:
            raise UsageError(f"prompt is {len(ids)} tokens but the model's context is {model.config.context}")
        return ids

    def _job(self, prompt: str, ids: list[int], added: bool, seed: int) -> Job:
        request, host = self.request, self.host
        sampling = Sampling(
            1.0 if request.repetition_penalty is None else request.repetition_penalty,
            1.0 if request.temperature is None else request.temperature,
            request.top_k,
            None if request.top_p in (None, 1) else request.top_p,
            request.min_p,
        )
        limit = 16 if request.max_tokens is None else request.max_tokens
        story = Story(prompt, seed, ids)
        telling = Telling(
            story, host.tokenizer, sampling, host.model.config.context, limit, request.stops, request.logprobs
        )
        return Job(host, telling, int(added), echo_likelihoods=bool(request.echo) and request.logprobs is not None)

    def whole(self) -> dict[str, Any]:
        """The answer when all is told."""
        return self._said([choice.rest(job.telling.story.told) for choice, job in self._pairs()]) | {
            "usage": self.usage()
        }

    def piece(self, index: int, event: Event) -> dict[str, Any]:
        """A chunk of a stream."""
        return self._said([self.choices[index].piece(event)])

    def last_piece(self) -> dict[str, Any]:
        """The chunk that tells the usage."""
        return self._said([]) | {"usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read and told, those that ended a story included."""
        read = sum(len(job.telling.draft.prompt_ids) for job in self.jobs[:: self.request.n or 1])
        told = sum(job.telling.story.tokens for job in self.jobs)
        return {"prompt_tokens": read, "completion_tokens": told, "total_tokens": read + told}

    def _pairs(self) -> Iterator[tuple["_Choice", Job]]:
        return zip(self.choices, self.jobs, strict=True)

    def _said(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        about = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.host.name}
        return {**about, "choices": choices}


class _Choice:
    """What was said of a job so far, so that the pieces of a stream come to what is said at once."""

    def __init__(self, completion: Completion, index: int, job: Job):
        self._request, self._index, self._job = completion.request, index, job
        self._said_tokens = 0
        self._offset = 0  # of the next token, in characters of the text that is said
        self._begun = False

    def rest(self, text: str) -> dict[str, Any]:
        """The choice with all of it."""
        story = self._job.telling.story
        return self.piece(Event(text, story.tokens, story.ended or "length"))

    def piece(self, event: Event) -> dict[str, Any]:
        """The choice with what is new."""
        logprobs: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        text, draft = event.text, self._job.telling.draft
        if self._request.echo and not self._begun:
            prompt = self._job.telling.story.prompt
            given = list(zip(draft.prompt_ids, self._job.prompt_likelihoods, strict=bool(self._job.prompt_likelihoods)))
            for token, likelihood in given[self._job.added :]:
                self._add(logprobs, token, likelihood)
            text, self._offset = prompt + text, len(prompt)
        self._begun = True
        if self._request.logprobs is not None:
            for number in range(self._said_tokens, event.tokens):
                self._add(logprobs, draft.drawn[number], draft.likelihoods[number])
        self._said_tokens = event.tokens
        return {
            "index": self._index,
            "text": text,
            "logprobs": logprobs if self._request.logprobs is not None else None,
            "finish_reason": REASONS.get(event.ended or ""),
        }

    def _add(self, logprobs: dict[str, list[Any]], token: int, likelihood: Likelihood | None) -> None:
        decode = self._job.host.token_text
        logprobs["tokens"].append(decode(token))
        logprobs["text_offset"].append(self._offset)
        if token not in self._job.host.tokenizer.special_ids:
            self._offset += len(decode(token))
        logprobs["token_logprobs"].append(None if likelihood is None else likelihood.nats)
        others = None if likelihood is None else {decode(id): nats for id, nats in reversed(likelihood.instead.items())}
        if others is not None and likelihood is not None:
            others[decode(token)] = likelihood.nats
        logprobs["top_logprobs"].append(others)

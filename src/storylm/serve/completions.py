"""Requests for completions as jobs, and what comes of jobs as OpenAI's API tells it."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story, Telling
from storylm.serve.batcher import Event, Host, Job
from storylm.serve.choices import Choice
from storylm.serve.prompts import Prompt, read_prompt
from storylm.serve.requests import CompletionRequest


@dataclass
class Completion:
    """A request on its way: its jobs in the order of its choices."""

    request: CompletionRequest
    host: Host
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    jobs: list[Job] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    prompt_tokens: int = 0

    def __post_init__(self) -> None:
        """Raises `UsageError` where a prompt does not fit the model."""
        request = self.request
        seed = secrets.randbits(31) if request.seed is None else request.seed
        for given in request.prompts:
            prompt = read_prompt(self.host, given)
            for number in range(request.n or 1):
                job = self._job(prompt, seed + number)
                self.choices.append(Choice(request, len(self.jobs), prompt, job))
                self.jobs.append(job)
            self.prompt_tokens += len(prompt.ids)

    def _job(self, prompt: Prompt, seed: int) -> Job:
        request, host = self.request, self.host
        sampling = Sampling(
            1.0 if request.repetition_penalty is None else request.repetition_penalty,
            1.0 if request.temperature is None else request.temperature,
            request.top_k,
            None if request.top_p in (None, 1) else request.top_p,
            request.min_p,
        )
        limit = 16 if request.max_tokens is None else request.max_tokens
        story = Story(prompt.text, seed, prompt.ids)
        telling = Telling(
            story, host.tokenizer, sampling, host.model.config.context, limit, request.stops, request.logprobs
        )
        return Job(host, telling, echo_likelihoods=bool(request.echo) and request.logprobs is not None)

    def whole(self) -> dict[str, Any]:
        """The answer when all is told."""
        return self._said([choice.whole() for choice in self.choices]) | {"usage": self.usage()}

    def piece(self, index: int, event: Event) -> dict[str, Any]:
        """A chunk of a stream."""
        return self._said([self.choices[index].piece(event)])

    def last_piece(self) -> dict[str, Any]:
        """The chunk that tells the usage."""
        return self._said([]) | {"usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read and told, those that ended a story included."""
        read, told = self.prompt_tokens, sum(job.telling.story.tokens for job in self.jobs)
        return {"prompt_tokens": read, "completion_tokens": told, "total_tokens": read + told}

    def _said(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        about = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.host.name}
        return {**about, "choices": choices}

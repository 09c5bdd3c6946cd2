"""The answers: stories told, whole or as they come, attention, and what monitors ask for."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from storylm.config.errors import UserError
from storylm.generation.attention_maps import attention_maps
from storylm.model.count import parameters
from storylm.serve.batcher import Batcher, BrokenError, FullError
from storylm.serve.completions import Completion
from storylm.serve.errors import REFUSALS, ApiError, fault, respond
from storylm.serve.following import Following
from storylm.serve.host import Host
from storylm.serve.metrics import Metrics
from storylm.serve.places import Places
from storylm.serve.prompts import read_prompt
from storylm.serve.requests import AttentionRequest, CompletionRequest
from storylm.serve.settings import ServeSettings

THREADS = 2  # that compute attention, and as many that read prompts and write answers
GONE = 499  # what nginx writes down of who has gone before the answer, who does not see it
T = TypeVar("T")


class Service:
    """The answers."""

    def __init__(self, batcher: Batcher, settings: ServeSettings, metrics: Metrics):
        self._batcher, self._settings, self._metrics = batcher, settings, metrics
        self._looking = ThreadPoolExecutor(THREADS, "storylm-attention")
        self._working = ThreadPoolExecutor(THREADS, "storylm-work")

    def close(self) -> None:
        """Take on no more work in threads."""
        for pool in (self._looking, self._working):
            pool.shutdown(wait=False, cancel_futures=True)

    async def complete(self, request: Request, body: CompletionRequest) -> Response:
        """Tell one or several stories."""
        host = self._host(body.model)
        try:
            self._batcher.check_room(len(body.prompts) * (body.n or 1))
            completion = await self._read(host, body.prompts, Completion, body, host)
            following = Following(completion.jobs, self._batcher, self._metrics, self._settings, bool(body.stream))
            following.start()
        except FullError:
            raise ApiError(429, "too_many_requests", REFUSALS[429]) from None
        except BrokenError:
            raise ApiError(503, "model_broken", f"{body.model} has failed for good: see the server's log") from None
        if body.stream:
            return _Stream(_pieces(completion, following), following)
        try:
            await _over_or_gone(following, request)
        finally:
            following.close()
        if following.error:
            raise following.error
        if following.over.result() == "cancelled":
            return Response(status_code=GONE)
        return await self._in_thread(lambda: respond(completion.whole()))  # likelihoods make it long

    async def _read(self, host: Host, prompts: list[Any], read: Callable[..., T], *given: Any) -> T:
        """What `read` makes of prompts. In a thread: to cut a megabyte into tokens takes a while."""
        try:
            for prompt in prompts:
                if isinstance(prompt, str):
                    host.check_length(prompt)
            return await self._in_thread(read, *given)
        except UserError as error:
            raise ApiError(400, "invalid_value", str(error), "prompt") from error

    async def _in_thread(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._working, work, *given)

    async def attention(self, body: AttentionRequest) -> Response:
        """How the attention of one token is shared out over those before it, [layers][heads][tokens]."""
        host = self._host(body.model)
        told = body.token_ids
        prompt = await self._read(host, [body.prompt], read_prompt, host, body.prompt, told)
        ids = [*prompt.ids, *told]
        token = len(ids) - 1 if body.token is None else body.token
        if token >= len(ids):
            raise ApiError(400, "invalid_value", f"token={token}: there are {len(ids)}", "token")
        # In threads of their own: stories do not wait for them.
        loop = asyncio.get_running_loop()
        maps = await loop.run_in_executor(self._looking, attention_maps, host.model, ids, token)
        weights = [[[round(weight, 4) for weight in head] for head in layer] for layer in maps[:, :, 0].tolist()]
        names = [host.tokenizer.pieces.name(id) for id in ids]
        places = Places(host.tokenizer, prompt.text, prompt.ids)
        spans = [*places.prompt, *map(places.add, told)]
        return respond({"tokens": names, "spans": spans, "token": token, "weights": weights})

    async def models(self) -> Response:
        """The models there are."""
        data = [
            {
                "id": host.name,
                "object": "model",
                "created": 0,
                "owned_by": "storylm",
                "context": host.model.config.context,
                "parameters": parameters(host.model.config),
            }
            for host in self._batcher.hosts.values()
        ]
        return respond({"object": "list", "data": data})

    async def metrics(self) -> Response:
        """Figures for Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def health(self) -> Response:
        """Whether there is anyone here, and all that is served can be told."""
        broken = self._batcher.broken
        return respond({"status": "broken", "broken": broken}, 503) if broken else respond({"status": "ok"})

    def _host(self, name: str) -> Host:
        if name not in self._batcher.hosts:
            raise ApiError(404, "model_not_found", f"there is no model {name!r} here: see GET /v1/models", "model")
        return self._batcher.hosts[name]


class _Stream(StreamingResponse):
    """Server-sent events of what is followed, which ends with it: even where nobody came to hear the first."""

    def __init__(self, content: AsyncIterator[str], following: Following):
        super().__init__(content, media_type="text/event-stream")
        self._following = following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._following.close()


async def _pieces(completion: Completion, following: Following) -> AsyncIterator[str]:
    """All choices as they come."""
    request = completion.request
    try:
        while (told := await following.events.get()) is not None:
            index, event = told
            if event.text or event.ended or request.logprobs is not None:
                yield _data(completion.piece(index, event))
        if following.error:
            yield _data(following.error.body)
        elif request.stream_options is not None and request.stream_options.include_usage:
            yield _data(completion.last_piece())
    except Exception as error:
        yield _data(fault(error).body)
    yield "data: [DONE]\n\n"


def _data(content: Any) -> str:
    return f"data: {json.dumps(content)}\n\n"


async def _over_or_gone(following: Following, request: Request) -> None:
    """Wait until all is told, or the client has closed the connection."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(disconnected())
    try:
        await asyncio.wait({gone, following.over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone

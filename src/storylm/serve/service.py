"""The answers: stories told, whole or as they come, attention, and what monitors ask for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from storylm.config.errors import UserError
from storylm.generation.attention_maps import attention_maps
from storylm.model.count import parameters
from storylm.serve.batcher import Batcher, Event, FullError, Host, Job
from storylm.serve.completions import Completion
from storylm.serve.errors import REFUSALS, ApiError, respond
from storylm.serve.metrics import Metrics
from storylm.serve.places import Places
from storylm.serve.prompts import read_prompt
from storylm.serve.requests import AttentionRequest, CompletionRequest
from storylm.serve.settings import ServeSettings

LOOKING, LOOKS = 2, 32  # threads that compute attention, and how many requests for it may be on their way


class Service:
    """The answers."""

    def __init__(self, batcher: Batcher, settings: ServeSettings, metrics: Metrics):
        self._batcher, self._settings, self._metrics = batcher, settings, metrics
        self._looking, self._looks = ThreadPoolExecutor(LOOKING, "storylm-attention"), 0

    async def complete(self, request: Request, body: CompletionRequest) -> Response:
        """Tell one or several stories."""
        began = time.perf_counter()
        try:
            # In a thread: to cut a megabyte into tokens takes a while.
            completion = await asyncio.to_thread(Completion, body, self._host(body.model))
        except UserError as error:
            raise ApiError(400, "invalid_value", str(error), "prompt") from error
        try:
            self._batcher.submit(completion.jobs)
        except FullError:
            raise ApiError(429, "too_many_requests", REFUSALS[429]) from None
        if body.stream:
            return StreamingResponse(self._stream(completion, began), media_type="text/event-stream")
        try:
            async with _gone(request) as gone:
                for job in completion.jobs:
                    async for _ in self._events(job, began, gone):
                        pass
        finally:
            self._batcher.cancel(completion.jobs)
        self._metrics.whole.observe(time.perf_counter() - began)
        return respond(completion.whole())

    async def _stream(self, completion: Completion, began: float) -> AsyncIterator[str]:
        """Server-sent events, of all choices as they come."""
        together: asyncio.Queue[tuple[int, Event | ApiError | None]] = asyncio.Queue()

        async def follow(index: int, job: Job) -> None:
            try:
                async for event in self._events(job, began):
                    together.put_nowait((index, event))
            except ApiError as error:
                together.put_nowait((index, error))
            together.put_nowait((index, None))

        tasks = [asyncio.create_task(follow(index, job)) for index, job in enumerate(completion.jobs)]
        try:
            left, request = len(tasks), completion.request
            while left:
                index, event = await together.get()
                if event is None:
                    left -= 1
                elif isinstance(event, ApiError):
                    yield f"data: {json.dumps(event.body)}\n\n"
                elif event.text or event.ended or request.logprobs is not None:
                    yield f"data: {json.dumps(completion.piece(index, event))}\n\n"
            if request.stream_options is not None and request.stream_options.include_usage:
                yield f"data: {json.dumps(completion.last_piece())}\n\n"
            yield "data: [DONE]\n\n"
            self._metrics.whole.observe(time.perf_counter() - began)
        finally:
            for task in tasks:
                task.cancel()
            self._batcher.cancel(completion.jobs)

    async def _events(self, job: Job, began: float, gone: "asyncio.Event | None" = None) -> AsyncIterator[Event]:
        """What is told of a job. Raises `ApiError` where it fails or waits too long."""
        first = True
        while True:
            try:
                event = await asyncio.wait_for(_next(job, gone), self._settings.wait_seconds)
            except TimeoutError:
                raise ApiError(503, "no_slot", REFUSALS[503]) from None
            if first:
                self._metrics.first.observe(time.perf_counter() - began)
            first = False
            if event.failed:
                raise ApiError(500, "internal_error", f"{REFUSALS[500]}: {event.failed}")
            yield event
            if event.ended:
                return

    async def attention(self, body: AttentionRequest) -> Response:
        """How the attention of one token is shared out over those before it, [layers][heads][tokens]."""
        host = self._host(body.model)
        try:
            prompt = await asyncio.to_thread(read_prompt, host, body.prompt, body.token_ids)
        except UserError as error:
            raise ApiError(400, "invalid_value", str(error), "prompt") from error
        ids = [*prompt.ids, *body.token_ids]
        token = len(ids) - 1 if body.token is None else body.token
        if token >= len(ids):
            raise ApiError(400, "invalid_value", f"token={token}: there are {len(ids)}", "token")
        if self._looks == LOOKS:
            raise ApiError(429, "too_many_requests", REFUSALS[429])
        self._looks += 1
        try:  # in threads of their own: stories do not wait for them
            maps = await asyncio.get_running_loop().run_in_executor(
                self._looking, attention_maps, host.model, ids, token
            )
        finally:
            self._looks -= 1
        weights = [[[round(weight, 4) for weight in head] for head in layer] for layer in maps[:, :, 0].tolist()]
        names = [host.tokenizer.pieces.name(id) for id in ids]
        places = Places(host.tokenizer, prompt.text, prompt.ids)
        spans = [*places.prompt, *map(places.add, body.token_ids)]
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
        """Whether there is anyone here."""
        return respond({"status": "ok"})

    def _host(self, name: str) -> Host:
        if name not in self._batcher.hosts:
            raise ApiError(404, "model_not_found", f"there is no model {name!r} here: see GET /v1/models", "model")
        return self._batcher.hosts[name]


async def _next(job: Job, gone: asyncio.Event | None) -> Event:
    """The job's next event; or that it was cancelled, where who asked for it has gone."""
    if gone is None:
        return await job.events.get()
    waits = [asyncio.create_task(job.events.get()), asyncio.create_task(gone.wait())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return waits[0].result() if waits[0] in done else Event(ended="cancelled")  # type: ignore[return-value]
    finally:
        for wait in waits:
            wait.cancel()


@asynccontextmanager
async def _gone(request: Request) -> AsyncIterator[asyncio.Event]:
    """An event that is set once the client has closed the connection."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    task = asyncio.create_task(watch())
    try:
        yield gone
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

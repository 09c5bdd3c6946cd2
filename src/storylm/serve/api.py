"""The application: OpenAI's completions, what monitors ask for, and the playground."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import storylm
from storylm.config.errors import UserError
from storylm.generation.attention_maps import attention_maps
from storylm.model.count import parameters
from storylm.serve.batcher import Batcher, Event, FullError, Host, Job
from storylm.serve.completions import Completion
from storylm.serve.guard import Guard, error_body
from storylm.serve.metrics import Metrics
from storylm.serve.requests import AttentionRequest, CompletionRequest
from storylm.serve.settings import ServeSettings

log = logging.getLogger("storylm.serve")
STATIC = Path(__file__).parent / "static"
RETRY_SECONDS = "2"
LOOKING, LOOKS = 2, 32  # threads that compute attention, and how many requests for it may be on their way
PROMPTS = "give a text, token ids from 0 on, or a list of up to 64 of either, none of them empty"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
REFUSALS = {
    400: "the request cannot be understood, or does not fit the model",
    401: "the key is missing or wrong",
    404: "there is no such model",
    413: "the body is too large",
    415: "the body is no JSON",
    429: "too much is on its way: come again after `Retry-After` seconds",
    500: "a fault of the server, whose log has the `id` in the message",
    503: "no slot became free in time",
}


class ApiError(Exception):
    """An answer that is an error, as `guard.error_body` tells it."""

    def __init__(self, status: int, code: str, message: str, parameter: str | None = None):
        self.status, self.body = status, error_body(status, code, message, parameter)


def create_app(hosts: list[Host], settings: ServeSettings) -> FastAPI:
    """The ASGI application that serves these models."""
    batcher = Batcher(hosts, limit=sum(settings.slots for _ in hosts) + settings.queue)
    metrics = Metrics(batcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(title="storylm", version=storylm.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.batcher = batcher
    service = _Service(batcher, settings, metrics)
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": _json(ERROR)} for status, text in REFUSALS.items()
    }
    few: dict[int | str, dict[str, Any]] = {status: refusals[status] for status in (400, 401)}
    app.post("/v1/completions", responses=refusals)(service.complete)
    app.post("/v1/attention", responses=refusals)(service.attention)
    app.get("/v1/models", responses=few)(service.models)
    app.get("/metrics", responses=few)(service.metrics)
    app.get("/health", responses={400: refusals[400]})(service.health)
    app.get("/", include_in_schema=False)(lambda: FileResponse(STATIC / "index.html"))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(ApiError, lambda _, error: _respond(error.body, error.status))  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(UserError, _misused)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Guard, settings=settings, count=metrics.count)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        """What FastAPI describes, with the models there are, and 400 where it answers 422 to what is not valid."""
        schema = described()
        for body in ("CompletionRequest", "AttentionRequest"):
            schema["components"]["schemas"][body]["properties"]["model"]["enum"] = list(batcher.hosts)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


class _Service:
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
        return _respond(completion.whole())

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
            request = CompletionRequest(model=body.model, prompt=body.prompt, max_tokens=0)
            prompt = await asyncio.to_thread(Completion, request, host)
        except UserError as error:
            raise ApiError(400, "invalid_value", str(error), "prompt") from error
        ids = prompt.jobs[0].telling.draft.prompt_ids
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
        return _respond({"tokens": [host.token_text(id) for id in ids], "token": token, "weights": weights})

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
        return _respond({"object": "list", "data": data})

    async def metrics(self) -> Response:
        """Figures for Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def health(self) -> Response:
        """Whether there is anyone here."""
        return _respond({"status": "ok"})

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


def _respond(content: Any, status: int = 200) -> Response:
    """JSON in ASCII, which any text can be told in. Who is turned away is told when to come again."""
    headers = {"retry-after": RETRY_SECONDS} if status in (429, 503) else None
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _invalid(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = str(first["loc"][1]) if len(first["loc"]) > 1 else None
    said = PROMPTS if where == "prompt" else first["msg"]  # of a union, pydantic tells what is wrong with each member
    return _respond(error_body(400, "invalid_request", f"{where}: {said}" if where else said, where), 400)


def _refused(_: Request, error: HTTPException) -> Response:
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    response = _respond(error_body(error.status_code, code, str(error.detail)), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _misused(_: Request, error: UserError) -> Response:
    return _respond(error_body(400, "invalid_value", str(error)), 400)


def _failed(_: Request, error: Exception) -> Response:
    number = secrets.token_hex(8)
    log.error("error %s", number, exc_info=error)
    return _respond(error_body(500, "internal_error", f"{REFUSALS[500]}: {number}"), 500)

"""The application: OpenAI's completions, what monitors ask for, and the playground."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

import storylm
from storylm.serve.answers import ATTENTION, COMPLETIONS, HEALTH, METRICS, MODELS
from storylm.serve.batcher import Batcher, Host
from storylm.serve.errors import described, handle_errors
from storylm.serve.guard import Guard
from storylm.serve.metrics import Metrics
from storylm.serve.service import Service
from storylm.serve.settings import ServeSettings

STATIC = Path(__file__).parent / "static"


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
    service = Service(batcher, settings, metrics)
    app.post("/v1/completions", responses=described() | COMPLETIONS)(service.complete)
    app.post("/v1/attention", responses=described() | ATTENTION)(service.attention)
    app.get("/v1/models", responses=described(400, 401) | MODELS)(service.models)
    figures = described(400, 401, 404) | METRICS
    app.get("/metrics", responses=figures, response_class=PlainTextResponse)(service.metrics)
    app.get("/health", responses=described(400) | HEALTH)(service.health)
    app.get("/", include_in_schema=False)(lambda: FileResponse(STATIC / "index.html"))
    app.mount("/static", StaticFiles(directory=STATIC))
    handle_errors(app)
    app.add_middleware(Guard, settings=settings, count=metrics.count)
    app.openapi = _openapi(app, list(batcher.hosts))  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI, models: list[str]) -> Callable[[], dict[str, Any]]:
    """What FastAPI describes, with the models there are, and 400 where it answers 422 to what is not valid."""
    generic = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generic()
        for body in ("CompletionRequest", "AttentionRequest"):
            schema["components"]["schemas"][body]["properties"]["model"]["enum"] = models
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return schema

    return openapi

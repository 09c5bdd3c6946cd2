"""A server process: models loaded, a socket opened, uvicorn run until it is told to end."""

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from storylm.config.errors import SetupError, UsageError
from storylm.generation.attention_maps import attention_maps
from storylm.serve.settings import ServeSettings

try:
    import uvicorn
    from fastapi import FastAPI

    from storylm.serve.api import create_app
    from storylm.serve.connections import Connection, allow_files
    from storylm.serve.host import Host
except ModuleNotFoundError as error:
    if (error.name or "").startswith("storylm"):
        raise
    raise SetupError(f"serving needs the package {error.name}: pip install 'storylm[serve]'") from error

BACKLOG = 4096  # connections that may wait to be taken


def host_names(sources: list[str]) -> list[str]:
    """What models are called here: by their folders' names; where two have the same, by what was given.

    Raises:
        UsageError: a model is named twice.
    """
    names = [Path(source).name for source in sources]
    names = [name if names.count(name) == 1 else source for name, source in zip(names, sources, strict=True)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{min(twice)} is named twice: name it once")
    return names


def run(hosts: list[Host], settings: ServeSettings, tell: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `tell` is given the address once it is bound.

    Raises:
        SetupError: the address cannot be had.
    """
    settings = allow_files(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((settings.host, settings.port))
        taken.listen(BACKLOG)  # who comes as soon as the address is told waits until there is someone to answer
    except OSError as error:
        taken.close()
        raise SetupError(f"cannot listen at {settings.host}:{settings.port}: {error.strerror}; try --port 0") from error
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    for host in hosts:  # compiles what attention is computed with before anyone waits for it
        attention_maps(host.model, [host.tokenizer.start_id], 0)
    tell(f"http://{name}:{taken.getsockname()[1]}")
    uvicorn.Server(configuration(create_app(hosts, settings), settings)).run(sockets=[taken])


def configuration(app: FastAPI, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn serves the application."""
    refused = partial(app.state.metrics.count, "", 503)
    return uvicorn.Config(
        app,
        http=partial(Connection, settings=settings, refused=refused),  # type: ignore[arg-type]
        ws="none",  # what comes in as one would not pass the guard
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
        server_header=False,
    )

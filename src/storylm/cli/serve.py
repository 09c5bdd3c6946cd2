"""`storylm serve`: models over HTTP, and a page to play on."""

import os
import sys

import typer

from storylm.cli import options

KEY = "STORYLM_API_KEY"


def serve(
    models: list[str] = typer.Argument(help="One or several: " + options.MODEL_HELP),
    host: str = typer.Option(
        "127.0.0.1", help=f"Address to listen at; beyond this machine only with a key in {KEY} or --public."
    ),
    port: int = typer.Option(8000, help="0: any that is free."),
    slots: int = typer.Option(32, help="Stories of a model that are told at once."),
    queue: int = typer.Option(1024, help="Stories that may wait for a slot; beyond it the answer is 429."),
    connections: int = typer.Option(8192, help="Connections at the same time; beyond it the answer is 503."),
    tell_seconds: float = typer.Option(900, help="Longest time that the stories of one request may take."),
    allow_host: list[str] = typer.Option([], metavar="NAME", help="A name this server is called by; may be repeated."),
    public: bool = typer.Option(
        False, "--public", help="Serve everyone who reaches the address, without a key: a demo. /metrics is left out."
    ),
    allow_frame: list[str] = typer.Option(
        [],
        metavar="ORIGIN",
        help="A site that may show the page in a frame, as https://huggingface.co; may be repeated.",
    ),
    precision: options.Precision = "fp32",
    device: options.Device = "auto",
) -> None:
    """Serve models: OpenAI's /v1/completions, and a playground at /.

    Listens to this machine alone unless told otherwise. Ctrl-C ends it.
    """
    from storylm.serve.server import Host, host_names, run
    from storylm.serve.settings import ServeSettings

    settings = ServeSettings(
        host=host,
        port=port,
        api_key=os.environ.get(KEY) or None,
        public=public,
        allowed_hosts=tuple(allow_host),
        frame_origins=tuple(allow_frame),
        slots=slots,
        queue=queue,
        connections=connections,
        tell_seconds=tell_seconds,
    )
    named = dict(zip(host_names(models), models, strict=True))
    hosts = [Host(name, *options.load_model(source, None, device), slots, precision) for name, source in named.items()]
    run(
        hosts,
        settings,
        lambda address: print(f"serving {', '.join(h.name for h in hosts)} at {address}", file=sys.stderr),
    )

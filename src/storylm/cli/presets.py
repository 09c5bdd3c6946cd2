"""`storylm presets`: what can be trained by name."""

import typer


def presets(as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table.")) -> None:
    """List the presets with their parameters, shapes and sources."""
    import json
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from storylm.config.load import preset, preset_names
    from storylm.model.count import parameters

    runs = [preset(name) for name in preset_names()]
    if as_json:
        rows = [
            {
                "name": run.name,
                "family": run.model.family,
                "parameters": parameters(run.model),
                "layers": run.model.layers,
                "width": run.model.width,
                "heads": run.model.heads,
                "context": run.model.context,
                "vocab_size": run.model.vocab_size,
                "tokenizer": run.tokenizer,
                "about": run.about,
            }
            for run in runs
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("preset", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("layers x width, heads", no_wrap=True)
    table.add_column("context", justify="right", no_wrap=True)
    table.add_column("tokenizer", no_wrap=True)
    table.add_column("about")
    for run in runs:
        model = run.model
        table.add_row(
            run.name,
            f"{parameters(model):,}",
            f"{model.layers} x {model.width}, {model.heads}",
            f"{model.context:,}",
            f"{run.tokenizer} {model.vocab_size:,}",
            run.about,
        )
    # In a pipe every preset keeps to one line, for grep.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)

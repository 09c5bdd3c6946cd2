"""`storylm evaluate`: how well a model predicts stories."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from storylm.evaluation.likelihood import Likelihood


def evaluate(
    model: str = typer.Argument(help=options.MODEL_HELP),
    data: str = typer.Argument(help="Stories: a named corpus, a Hub dataset, a file, a folder or a prepared folder."),
    split: options.SplitName = None,
    batch_size: int = typer.Option(16, help="Rows of the model's context scored at once; it does not change figures."),
    max_stories: options.MaxStories = None,
    stride: int = typer.Option(
        None, help="Score stories longer than the context to their end, in windows that move by so many tokens."
    ),
    tokenizer: options.OtherTokenizer = None,
    device: options.Device = "auto",
    output: Path = typer.Option(None, help="Write the figures to this JSON file too."),
) -> None:
    """Judge a model: bits per byte, nats per token and perplexity on stories as they are, without any cleaning."""
    from rich.console import Console

    from storylm.cli.judging import CONVENTION, judge
    from storylm.config.files import write_text
    from storylm.evaluation.corpus import Corpus

    options.check_output(output)
    corpus = Corpus(data, split, max_stories)
    network, words = options.load_model(model, tokenizer, device)
    likelihood = judge(network, words, corpus, batch_size, stride)
    if output is not None:  # first of all: who reads what is printed may be gone, as in `| head -3`
        about = {
            "model": model,
            "data": data,
            "split": corpus.split,
            "tokenizer": words.name,
            "unreadable": dict(corpus.unreadable),
            "repaired": dict(corpus.repaired),
            "convention": CONVENTION,
        }
        write_text(output, json.dumps({**about, **likelihood.to_json()}, indent=2) + "\n")
    console = Console(highlight=False)
    console.print(_table(likelihood))
    console.print(f"{CONVENTION} {_about_long_stories(likelihood)}".strip(), style="dim")


def _table(likelihood: "Likelihood") -> "Table":
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("[bold]bits per byte[/]", f"[bold]{likelihood.bits_per_byte:.4f}[/]")
    table.add_row("nats per token", f"{likelihood.nats_per_token:.4f}")
    table.add_row("perplexity", f"{likelihood.perplexity:,.3f}")
    if likelihood.special_tokens:
        table.add_row("nats per end token", f"{likelihood.special_nats / likelihood.special_tokens:.4f}")
    table.add_row("stories", f"{likelihood.stories:,}")
    table.add_row("tokens", f"{likelihood.tokens:,}")
    table.add_row("bytes", f"{likelihood.bytes:,}")
    table.add_row("truncated stories", f"{likelihood.truncated_stories:,}")
    return table


def _about_long_stories(likelihood: "Likelihood") -> str:
    """What became of those longer than the context."""
    context, stride = likelihood.context, likelihood.stride
    if not likelihood.truncated_stories:
        return ""
    if stride is None:
        return f"Of truncated stories, the first {context} tokens: with --stride {max(1, context // 2)}, all of them."
    return (
        f"Truncated stories are longer than the context, {context} tokens, and scored in windows {stride} tokens apart."
    )

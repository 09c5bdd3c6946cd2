"""What the tests of `generate`, `evaluate` and `compare` share: a small model folder, and a way to call a command."""

from pathlib import Path

import torch
import typer
from typer.testing import CliRunner, Result

from storylm.config.errors import UserError
from storylm.config.model import ModelConfig
from storylm.model.store import load, save
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer


def small_model(folder: Path, seed: int = 0, tokenizer: bool = True) -> str:
    """A folder with a random model of bytes, whose context is 64; its path."""
    config = ModelConfig(family="llama", vocab_size=257, context=64, layers=2, width=24, heads=3, init_std=0.05)
    model = Transformer(config).initialise(torch.Generator().manual_seed(seed))
    save(model, Tokenizer.load("bytes") if tokenizer else None, folder)
    return str(folder)


def diverged_model(folder: Path) -> str:
    """A `small_model` whose weights are not numbers, as training leaves them that diverged; its path."""
    model, tokenizer = load(small_model(folder))
    with torch.no_grad():
        model.blocks[-1].attention.out.weight.fill_(float("nan"))
    save(model, tokenizer, folder)
    return str(folder)


def call(command, *arguments: str, **options) -> Result:
    """Run one command; a user's mistake is raised, as it would be on its way to `storylm.cli.main`."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments), **options)
    if isinstance(result.exception, UserError):
        raise result.exception
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result

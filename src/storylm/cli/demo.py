"""`storylm demo`: from nothing to a story, offline."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

SETTINGS = (
    "name=demo",
    "data.source=grammar?stories=20000&validation=300",
    "model.vocab_size=1024",
    "train.eval_stories=100",
    "train.eval_every=50",
    "train.sample_every=0",
)


def demo(
    minutes: float = typer.Option(2.0, min=0.1, help="How long to train."),
    out: Path = typer.Option(Path("runs/demo"), help="The run folder; what an earlier demo left there is deleted."),
    seed: int = typer.Option(0, help="Another seed learns from the same stories in another order."),
) -> None:
    """Train a small model on the built-in stories for two minutes and let it tell one. Needs no network."""
    from rich.console import Console

    import storylm
    from storylm.config.files import expanded
    from storylm.config.load import resolve
    from storylm.data.grammar import entropy
    from storylm.data.prepare import prepare_cached
    from storylm.training.run import new_model, train_run
    from storylm.training.run_folder import check_run_folder

    console = Console(highlight=False)
    config = resolve("story-1m", None, [*SETTINGS, f"train.minutes={minutes}", f"train.seed={seed}"]).config
    out = expanded(out)
    check_run_folder(out, config, fresh=True)
    _tell(console, "grammar-1m", seed, "a story by grammar-1m, a model that comes with storylm; now one of your own")
    prepared = prepare_cached(config, quiet=True)  # training asks again, and tells
    some = prepared.validation_stories()[: config.train.eval_stories]
    before = storylm.evaluate(new_model(config), prepared.tokenizer, some).bits_per_byte
    result = train_run(config, out, fresh=True)
    if result.validation is not None:
        _tell(console, result.model, seed, "a story it tells")
        console.print(
            f"Bits per byte on stories it has not seen: {before:.3f} before, "
            f"[bold]{result.validation.bits_per_byte:.3f}[/] after {minutes:g} minutes.\n"
            f"No model can do better than {entropy().bits_per_byte:.3f}, the entropy of the built-in stories.\n\n"
            f"plot   {result.folder / 'loss.png'}\nmodel  {result.model}\n"
            f'next   storylm generate {result.model} --prompt "Once upon a time" --seed 7',
            soft_wrap=True,
        )
    raise typer.Exit(result.exit_code)


def _tell(console: "Console", model: str | Path, seed: int, title: str) -> None:
    """A story by the model, in a frame."""
    from rich.panel import Panel

    import storylm

    network, tokenizer = storylm.load(model)
    assert tokenizer is not None  # a run saves its tokenizer
    story = storylm.generate(network, tokenizer, "", max_new_tokens=500, seed=seed)[0]
    console.print(Panel(story.strip(), title=title, width=100))

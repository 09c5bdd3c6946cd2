"""`storylm demo`: from nothing to a story, offline."""

from pathlib import Path

import typer

SETTINGS = (
    "name=demo",
    "data.source=grammar?stories=20000",
    "model.vocab_size=1024",
    "model.context=256",
    "train.eval_stories=100",
    "train.eval_every=100",
    "train.sample_every=0",
)


def demo(
    minutes: float = typer.Option(2.0, min=0.1, help="How long to train."),
    out: Path = typer.Option(Path("runs/demo"), help="The run folder; what an earlier demo left there is deleted."),
    seed: int = typer.Option(0, help="Another seed learns from the same stories in another order."),
) -> None:
    """Train a small model on the built-in stories for two minutes and let it tell one. Needs no network."""
    from rich.console import Console
    from rich.panel import Panel

    import storylm
    from storylm.cli.demo_report import untrained_bits_per_byte
    from storylm.config.load import resolve
    from storylm.data.grammar import entropy
    from storylm.train.run import train_run

    console = Console(highlight=False)
    config = resolve("story-1m", None, [*SETTINGS, f"train.minutes={minutes}", f"train.seed={seed}"]).config
    before = untrained_bits_per_byte(config)
    floor = entropy().bits_per_byte
    result = train_run(config, out, fresh=True)
    if result.validation is None:
        raise typer.Exit(result.exit_code)
    after = result.validation.bits_per_byte
    model, tokenizer = storylm.load(result.model)
    story = storylm.generate(model, tokenizer, "", seed=seed, temperature=0.8)[0]
    console.print(Panel(story, title="a story it tells", expand=False))
    console.print(
        f"bits per byte on stories it has not seen: {before:.3f} before, [bold]{after:.3f}[/] after; {floor:.3f} is the"
    )
    console.print("entropy of the built-in stories, which no model can beat.")
    console.print(f"\nplot   {result.folder / 'loss.png'}\nmodel  {result.model}")
    console.print(f'\nnext   storylm generate {result.model} --prompt "Once upon a time" -n 3')
    raise typer.Exit(result.exit_code)

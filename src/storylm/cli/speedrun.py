"""`storylm speedrun`: how good is a recipe after so many minutes?"""

from pathlib import Path

import typer

from storylm.cli.options import preset_names


def speedrun(
    recipe: str = typer.Argument(help="A preset (see `storylm presets`).", autocompletion=preset_names),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings, as in optim.lr=1e-3."),
    data: str = typer.Option(help="Training stories: a named corpus, a Hub dataset, a file or a folder."),
    validation: str = typer.Option(help="Stories to judge by, likewise; never trained on."),
    minutes: float = typer.Option(None, help="The budget, where the recipe has none or another one is meant."),
    heats: int = typer.Option(3, min=1, help="Trained so many times, with seeds 0, 1, 2, ..."),
    out: Path = typer.Option(None, help="The folder (default: runs/speedrun-RECIPE); heats done there are kept."),
) -> None:
    """Train a recipe from nothing against the clock, several times, and judge it: bits per byte, median and spread.

    Everything after the tokenizer's training counts, compiling included; the judging does not. Run the same command
    again to go on after an interruption. Rules and records: docs/speedrun.md.
    """
    from rich.console import Console
    from rich.table import Table

    from storylm.cli import options
    from storylm.cli.judging import judge
    from storylm.config.files import expanded
    from storylm.config.load import resolve
    from storylm.evaluation.corpus import Corpus
    from storylm.training.speedrun import Speedrun

    given = [*(overrides or []), f"data.source={data}", f"data.validation={validation}"]
    given += [] if minutes is None else [f"train.minutes={minutes}"]
    config = resolve(recipe, None, given).config
    corpus = Corpus(validation)
    race = Speedrun(config, expanded(out or Path("runs") / f"speedrun-{recipe}"))

    def judged(model: Path) -> float:
        """Of all the stories to their ends, so that a short context is no advantage."""
        network, tokenizer = options.load_model(str(model), None, config.train.device)
        return judge(network, tokenizer, corpus, stride=network.config.context // 2).bits_per_byte

    run = [race.heat(seed, judged) for seed in range(heats)]
    results = race.finish(run)
    minutes = config.train.minutes or 0.0
    table = Table("seed", "bits per byte", "seconds", "steps", "tokens", title=f"{recipe}, {minutes:g} min")
    for heat in run:
        table.add_row(
            str(heat.seed), f"{heat.bits_per_byte:.4f}", f"{heat.seconds:.1f}", f"{heat.steps:,}", f"{heat.tokens:,}"
        )
    figure = results["bits_per_byte"]
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"[bold]{figure['median']:.4f}[/] bits per byte, the median of {len(run)} ({figure['min']:.4f} to "
        f"{figure['max']:.4f}); {race.folder / 'speedrun.json'}",
        soft_wrap=True,
    )
    if late := [heat.seed for heat in run if heat.seconds > 60 * minutes]:
        console.print(f"[red]over the time: seed {', '.join(map(str, late))}; was the machine busy?[/]")
        raise typer.Exit(1)

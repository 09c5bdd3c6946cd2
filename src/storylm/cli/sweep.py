"""`storylm sweep`: many small runs, and which settings are best."""

from pathlib import Path
from typing import Annotated

import typer

from storylm.cli.options import preset_names


def sweep(
    what: list[str] = typer.Argument(
        None,
        metavar="PRESET... [KEY=VALUE,VALUE...]...",
        help="Presets, and settings with the values to try, as in optim.lr=1e-3,3e-3; with --search LOW..HIGH, too.",
        autocompletion=preset_names,
    ),
    config_file: Path = typer.Option(None, "--config", help="A YAML file with `presets:` and `settings:`."),
    out: Path = typer.Option(Path("runs/sweep"), help="The folder; runs that are finished there are not run again."),
    jobs: str = typer.Option(
        "1", metavar="N|auto", help="Runs at a time, each in a process of its own; auto: one on each GPU or idle core."
    ),
    search: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Not every combination: N runs that Optuna chooses.")
    ] = None,
    fit: bool = typer.Option(False, "--fit", help="Fit the law of size and tokens to all runs, and draw it."),
) -> None:
    """Train every combination of presets and settings, as many at a time as asked; then a table and pictures.

    Run the same command again to go on after an interruption; with other values, for more runs in the same folder. With
    nothing but --out FOLDER, what is there is told anew, as with --fit. A search needs `pip install 'storylm[search]'`,
    pictures `pip install 'storylm[report]'`.
    """
    from contextlib import suppress
    from dataclasses import replace

    from rich.console import Console

    from storylm.cli.swept import tell
    from storylm.config.files import expanded
    from storylm.training.sweep.grid import read_grid
    from storylm.training.sweep.places import find_places
    from storylm.training.sweep.runner import Sweep
    from storylm.training.sweep.source import Listed, Source

    console = Console(stderr=True, highlight=False)

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    folder = expanded(out)
    found = Sweep(folder, say)
    if not what and config_file is None and search is None and found.record:
        tell(found, fit, say)
        return
    grid = read_grid(what or [], config_file and expanded(config_file))
    places = find_places(jobs, tuple(grid.values.get("train.device", ("auto",))))
    source: Source
    if search is None:
        source = Listed(grid.points())
    else:
        from storylm.training.sweep.search import Search

        source = Search(grid, search, found.record, jobs=places.jobs)
    places = replace(places, jobs=max(1, min(places.jobs, source.total)))
    say(f"{source.total} run{'s' if source.total != 1 else ''} in {folder}, {places.jobs} at a time")
    if places.jobs > max(1, len(places.gpus)) and any(grid.values.get("train.minutes", ())):
        say("minutes are those of runs that share the machine: with other --jobs they train for less, or more, steps")
    try:
        found.run(source, places, say)
    except (KeyboardInterrupt, SystemExit):
        with suppress(OSError):  # the terminal may be gone
            say("stopped: the same command goes on")
        raise
    tell(found, fit, say)

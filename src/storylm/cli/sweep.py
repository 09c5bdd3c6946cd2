"""`storylm sweep`: many small runs, and which settings are best."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storylm.cli.options import preset_names

if TYPE_CHECKING:
    from storylm.report.sweep_page import Row
    from storylm.training.sweep.runner import Sweep


def sweep(
    what: list[str] = typer.Argument(
        None,
        metavar="PRESET... [KEY=VALUE,VALUE...]...",
        help="Presets, and settings with the values to try, as in optim.lr=1e-3,3e-3; with --search LOW..HIGH, too.",
        autocompletion=preset_names,
    ),
    config_file: Path = typer.Option(None, "--config", help="A YAML file with `presets:` and `settings:`."),
    out: Path = typer.Option(Path("runs/sweep"), help="The folder; runs that are finished there are not run again."),
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each in a process of its own.")] = 1,
    search: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Not every combination: N runs that Optuna chooses.")
    ] = None,
    fit: bool = typer.Option(False, "--fit", help="Fit the law of size and tokens to all runs, and draw it."),
) -> None:
    """Train every combination of presets and settings, as many at a time as asked; then a table and pictures.

    Run the same command again to go on after an interruption; with other values, for more runs in the same folder. A
    search needs `pip install 'storylm[search]'`, pictures `pip install 'storylm[report]'`.
    """
    from rich.console import Console
    from rich.table import Table

    from storylm.config.errors import SetupError, UserError
    from storylm.config.files import expanded, write_text
    from storylm.report import charts
    from storylm.report.sweep_page import cells, chart, fitted, sweep_page
    from storylm.training.sweep.grid import read_grid
    from storylm.training.sweep.runner import Listed, Source, Sweep

    folder = expanded(out)
    grid = read_grid(what or [], config_file and expanded(config_file))
    found = Sweep(folder)
    source: Source
    if search is None:
        source = Listed(grid.points())
    else:
        from storylm.training.sweep.search import Search

        source = Search(grid, search, found.record)
    said, console = Console(stderr=True, highlight=False), Console(highlight=False)
    said.print(f"{source.total} runs in {folder}, {jobs} at a time; each writes to RUN.log there")
    try:
        found.run(source, jobs, lambda line: said.print(line, markup=False, soft_wrap=True))
    except (KeyboardInterrupt, SystemExit):
        said.print("stopped: the same command goes on")
        raise

    rows = _rows(found)
    head, lines = cells(rows)
    table = Table(*head, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    law, problem = None, None
    try:
        law = fitted(rows) if fit else None
    except UserError as error:  # first the page, which is worth as much without it
        problem = error
    if law:
        console.print(str(law), soft_wrap=True)
    try:
        write_text(folder / "sweep.html", sweep_page(folder.name, rows, law))
        for name, picture in (("sweep", chart(rows)), ("law", law and law.chart)):
            if picture:
                charts.write_png(picture, folder / f"{name}.png")
        print(folder / "sweep.html")
    except SetupError as error:  # the runs are worth as much without a picture
        said.print(str(error), markup=False)
    if problem:
        raise problem
    if any(row.ended == "failed" for row in rows):
        raise typer.Exit(1)


def _rows(found: "Sweep") -> "list[Row]":
    """Every run that the folder's record has, those of earlier sweeps there too."""
    from storylm.config.errors import UserError
    from storylm.report.runs import read_runs
    from storylm.report.sweep_page import Row

    rows = []
    for name, entry in found.record.items():
        try:
            run = read_runs([found.folder / name])[0]
        except UserError:  # it failed before it was one
            run = None
        rows.append(Row(name, entry["varied"], entry.get("ended", "not finished"), run))
    return rows

"""What `storylm sweep` tells in the end: a table, a page, pictures, and the law where it is asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from storylm.report.sweep_rows import Row
    from storylm.training.sweep.runner import Sweep


def tell(found: "Sweep", fit: bool, say: Callable[[str], None]) -> None:
    """Print the table, and write the page and the pictures into the sweep's folder.

    Raises:
        UserError: the law cannot be fitted; everything else is told before.
        typer.Exit: a run failed.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from storylm.config.errors import UserError
    from storylm.config.files import write_text
    from storylm.report.charts import write_pngs
    from storylm.report.fitted import fitted
    from storylm.report.sweep_page import cells, chart, sweep_page
    from storylm.report.sweep_rows import warning

    rows, console = _rows(found), Console(highlight=False)
    head, lines = cells(rows)
    table = Table(*head, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)
    if beware := warning(rows):
        say(beware)
    law, problem = None, None
    try:
        law = fitted(rows) if fit else None
    except UserError as error:  # first the page, which is worth as much without it
        problem = error
    if law:
        console.print(str(law), soft_wrap=True, markup=False)
    if all(row.ended == "failed" for row in rows):
        say(f"all of them failed, so there is no page; their logs are in {found.folder}")
    else:
        write_text(found.folder / "sweep.html", sweep_page(found.folder.name, rows, law))
        drawn = {"sweep.png": chart(rows), "law.png": law and law.chart}
        write_pngs({found.folder / name: one for name, one in drawn.items() if one}, say)
        print(found.folder / "sweep.html")
    if problem:
        raise problem
    if any(row.ended == "failed" for row in rows):
        raise typer.Exit(1)


def _rows(found: "Sweep") -> "list[Row]":
    """Every run that the folder's record has, those of earlier sweeps there too."""
    from storylm.config.errors import UserError
    from storylm.report.runs import read_runs
    from storylm.report.sweep_rows import Row

    rows = []
    for name, entry in found.record.items():
        try:
            run = read_runs([found.folder / name])[0]
        except UserError:  # it failed before it was one
            run = None
        rows.append(Row(name, entry["varied"], entry.get("ended", "not finished"), run, entry.get("why", "")))
    return rows

"""`storylm report`: a page about runs."""

from pathlib import Path

import typer

from storylm.cli import options


def report(
    runs: list[Path] = typer.Argument(help="Run folders: finished, going on, or interrupted."),
    out: Path = typer.Option(Path("report.html"), help="The page to write."),
    png: Path = typer.Option(None, metavar="FOLDER", help="Write every chart as a PNG there, too."),
) -> None:
    """Write a page about one run, or about several side by side: curves, stories on the way, data and settings.

    Runs are compared after as many tokens, as much time and as many FLOPs. Needs `pip install 'storylm[report]'`.
    """
    from storylm.config.files import expanded, write_text
    from storylm.report.charts import write_png
    from storylm.report.compare import verdict
    from storylm.report.run_page import run_charts, run_page
    from storylm.report.runs import read_runs

    out = expanded(out)
    options.check_output(out, ".html", ".htm", option="--out")
    found = read_runs([expanded(folder) for folder in runs])
    write_text(out, run_page(found))
    written = [out]
    for name, chart in run_charts(found).items() if png else ():
        written.append(expanded(png) / f"{name}.png")
        write_png(chart, written[-1])
    print(f"{verdict(found)}\n{', '.join(map(str, written))}")

"""`storylm leaderboard`: which model is best, and is that sure?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from storylm.report.leaderboard import Table


def leaderboard(
    models: list[str] = typer.Argument(help="Model folders, run folders or Hub ids."),
    data: str = typer.Option(help="Stories to judge by: a source as in `storylm evaluate`."),
    split: options.SplitName = None,
    max_stories: options.MaxStories = None,
    prompt: str = typer.Option("Once upon a time", "--prompt", "-p", help="Every model tells a story from it."),
    stories: Annotated[
        int,
        typer.Option(min=0, help="Each model tells so many from beginnings of DATA, judged by its endings; 0: none."),
    ] = 100,
    eyes: str = typer.Option(
        None, metavar="MODEL", help="See the told stories with the eyes of this model, the same for all: MAUVE."
    ),
    max_new_tokens: options.MaxNewTokens = 256,
    temperature: options.Temperature = 0.8,
    seed: options.Seed = 0,
    tokenizer: str = typer.Option(None, help="Of models that have none: gpt2, mistral, bytes, a file, a Hub id."),
    device: options.Device = "auto",
    again: bool = typer.Option(False, "--again", help="Ask anew what is known from before."),
    out: Path = typer.Option(Path("leaderboard"), help="The folder of leaderboard.md, .json, .html and pictures."),
) -> None:
    """Rank models by bits per byte, with intervals and paired tests; what they know and tell stands beside it.

    What a model answered is kept, by the hash of its weights and of all that was asked: adding one to a leaderboard
    costs no more than that one. A model that cannot be loaded is named and left out.
    """
    import sys

    from rich.console import Console

    from storylm import __version__
    from storylm.cli.counting import counting
    from storylm.config.errors import UsageError
    from storylm.config.files import expanded, write_text
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.leaderboard.board import hold
    from storylm.evaluation.leaderboard.examine import Questions
    from storylm.evaluation.telling import Manner
    from storylm.evaluation.text.judge import check_extra
    from storylm.report import leaderboard as tables
    from storylm.report.charts import write_pngs
    from storylm.report.leaderboard_page import leaderboard_page
    from storylm.training.device import pick_device
    from storylm.training.manifest import device_name

    folder = expanded(out)
    machine = f"{device_name(pick_device(device, '--device'))}, storylm {__version__}"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {out} is a file: name a folder")
    options.check_output(folder / "leaderboard.json", option="--out")
    if eyes and not stories:
        raise UsageError("--eyes see stories that are told: leave it out, or say --stories N")
    if stories:
        check_extra()
    manner = Manner(temperature, max_new_tokens, seed)
    questions = Questions(
        Corpus(data, split, max_stories),
        prompt,
        stories,
        manner,
        None if eyes is None else options.load_model(eyes, None, device, spare=tokenizer),
    )

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with counting("reading models", len(models)) as live:
        board = hold(
            models,
            lambda name: options.load_model(name, None, device, spare=tokenizer),
            questions,
            machine,
            again,
            say,
            live,
        )
    if board.places:
        write_text(folder / "leaderboard.json", tables.to_json(board, machine))
        chart = tables.by_size(board)
        drawn = write_pngs({folder / "by-size.png": chart} if chart else {}, say)
        write_text(folder / "leaderboard.md", tables.markdown(board, machine, [path.name for path in drawn]))
        write_text(folder / "leaderboard.html", leaderboard_page(board, machine))
        console = Console(highlight=False)
        for part in (_rich(tables.predicting(board)), "", _rich(tables.telling(board)), ""):
            console.print(part)
        for line in (tables.verdict(board), *tables.cautions(board)):
            console.print(line, markup=False)
        console.print(f"{folder / 'leaderboard.html'}, .md, .json", markup=False, soft_wrap=True)
    if board.left_out:
        raise typer.Exit(next(iter(board.left_out.values())).exit_code)


def _rich(plain: "Table") -> "RichTable":
    """For a terminal, also a narrow one: heads break between words, figures never; the first model stands out."""
    from rich.table import Column, Table
    from rich.text import Text

    columns = []
    for at, head in enumerate(plain.head):
        figures = at >= plain.texts
        whole = [*head.split(), *(row[at] for row in plain.rows)] if figures else []
        justify = "right" if figures else "left"
        columns.append(Column(Text(head), justify=justify, width=max(map(len, whole), default=None)))
    table = Table(*columns, box=None, pad_edge=False)
    for number, row in enumerate(plain.rows):
        table.add_row(*map(Text, row), style=None if number else "bold")
    return table

"""`storylm prepare`: clean and tokenize stories into a folder to train on."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from storylm.data.prepared import Prepared


def prepare(
    source: str = typer.Argument(
        help="Stories: a named corpus, a Hub dataset, a file or a folder; or a prepared folder, to look at it."
    ),
    overrides: list[str] = typer.Argument(
        None, metavar="[cleaning.RULE=VALUE]...", help="Cleaning rules, as in cleaning.near_duplicates=false."
    ),
    tokenizer: str = typer.Option(
        "bpe", help="bpe (trained on the stories), gpt2, mistral, bytes, a file or a Hub id."
    ),
    out: Path = typer.Option(None, help="The folder to make; an unfinished one there goes on."),
    validation: str = typer.Option(None, help="Validation stories (default: the source's own, or a share of them)."),
    vocab_size: int = typer.Option(None, min=257, help="Tokens of a tokenizer that is trained."),
    workers: int = typer.Option(
        None, min=1, help="Processes (default: one for each core); --max-stories reads in one."
    ),
    executor: str = typer.Option(
        "pool", help="Who does the work: pool (processes here), or datatrove, slurm, ray (docs/preparing.md)."
    ),
    job: list[str] = typer.Option(
        None, metavar="NAME=VALUE", help="For slurm, an option of sbatch; partition and time are needed."
    ),
    max_stories: int = typer.Option(None, min=1, help="Read only the first so many training stories."),
    instruct: bool = typer.Option(
        False, "--instruct", help="Keep what each story was asked to have before it, as in tinystories-instruct."
    ),
    derive_instruct: bool = typer.Option(
        False, "--derive-instruct", help="Put before each story words, a sentence and features that it has."
    ),
    seed: int = typer.Option(0, min=0, help="Of --derive-instruct: another one asks for other things."),
    verify: bool = typer.Option(False, "--verify", help="Check every byte of the folder against its manifest."),
) -> None:
    """Clean and tokenize stories once, for any number of runs: `storylm train --data OUT`.

    Goes on where it was interrupted. Prints what each cleaning rule did; every rule can be switched off.

    Unpacked .txt (with <|endoftext|>), .jsonl and .parquet are read in pieces of
    64 MB, by all processes at once, and an interrupted reading goes on with the
    next piece; any other file (.gz, .xz, .zst, .tar, .json) is a single piece.
    Finding near duplicates takes about 0.25 GB of memory for each million stories.
    """
    from storylm.config.errors import UsageError
    from storylm.config.load import apply_overrides
    from storylm.config.schema import RunConfig
    from storylm.data import prepare as preparing
    from storylm.data.orders import Orders
    from storylm.data.prepared import Prepared, read_manifest
    from storylm.data.preparing.executors import executor_of
    from storylm.data.preparing.progress import ConsoleProgress
    from storylm.data.sources import existing

    given = existing(source)
    if out is None and given is not None and read_manifest(given) is not None:
        _show(Prepared.load(given, verify))
        return
    if out is None:
        raise UsageError("say where the prepared stories go: --out DIR")
    for override in overrides or []:
        if not override.removeprefix("data.").startswith(("cleaning.", "validation_share=")):
            raise UsageError(
                f"{override!r} is no setting of preparing: those are cleaning.RULE=VALUE and validation_share"
            )
    if instruct and derive_instruct:
        raise UsageError("--instruct keeps the orders that there are, --derive-instruct makes some: take one of them")
    if seed and not derive_instruct:
        raise UsageError(f"--seed {seed} is for --derive-instruct: leave it out")
    given = [f"data.{override.removeprefix('data.')}" for override in overrides or []]
    data = apply_overrides(RunConfig(), given).data
    who = executor_of(executor, workers, job or ())
    with ConsoleProgress() as progress:
        prepared = preparing.prepare(
            source,
            tokenizer,
            out,
            data.cleaning,
            validation=validation,
            validation_share=data.validation_share,
            vocab_size=vocab_size,
            max_stories=max_stories,
            orders=Orders("instruct" if instruct else "derived" if derive_instruct else "stories", seed),
            executor=who,
            progress=progress,
        )
    _show(Prepared.load(out, verify=True) if verify else prepared)


def _show(prepared: "Prepared") -> None:
    from rich.console import Console

    from storylm.data.prepared import SPLITS

    console = Console(highlight=False)
    for split in SPLITS:
        if (report := prepared.report(split)).read:
            console.print(report.table(f"Cleaning of {split}"))
        if report.problems:
            console.print(f"problems    {report.problems_told()}\n", soft_wrap=True, markup=False)
    for split in SPLITS:
        stories, tokens, size = prepared.stories(split), prepared.tokens(split), prepared.bytes(split)
        ratio = f", {size / tokens:.2f} bytes a token" if tokens else ""
        console.print(
            f"{split:<10}  {stories:>9,} stories  {tokens:>13,} tokens  {size:>13,} bytes{ratio}", soft_wrap=True
        )
    console.print(f"tokenizer   {prepared.tokenizer.vocab_size:,} tokens")
    console.print(f"\nnext        storylm train PRESET --data {prepared.folder}", soft_wrap=True)

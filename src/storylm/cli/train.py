"""`storylm train`: train a preset, or go on with a run."""

from pathlib import Path

import typer

from storylm.cli.options import preset_names


def train(
    preset: str = typer.Argument(
        None,
        help="A preset (see `storylm presets`); may be left out with --resume or --config.",
        autocompletion=preset_names,
    ),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings, as in optim.lr=1e-3."),
    config_file: Path = typer.Option(None, "--config", help="A YAML file of settings, over the preset's."),
    data: str = typer.Option(None, help="Training stories: a named corpus, a Hub dataset, a file or a folder."),
    validation: str = typer.Option(None, help="Validation stories, likewise; never trained on."),
    tokenizer: str = typer.Option(None, help="bpe, gpt2, mistral, bytes, a file, a folder or a Hub id."),
    out: Path = typer.Option(None, help="The run folder (default: runs/PRESET); an unfinished run there goes on."),
    steps: int = typer.Option(None, help="Train for so many optimizer updates."),
    epochs: float = typer.Option(None, help="Train for so many passes over the stories."),
    minutes: float = typer.Option(
        None, help="Train and save in so many minutes, compiling included; preparing the stories does not count."
    ),
    resume: Path = typer.Option(None, help="Go on with the run in this folder, with its own settings."),
    fresh: bool = typer.Option(False, "--fresh", help="Start anew, deleting what the run folder holds."),
) -> None:
    """Train a model on stories; run the same command again to go on after an interruption.

    Prepares the stories itself and keeps them for the next run. Ctrl-C saves and says how to go on.
    """
    from storylm.config.errors import UsageError
    from storylm.config.files import expanded
    from storylm.config.load import resolve
    from storylm.training.run import resume_run, train_run

    options = {
        "data.source": data,
        "data.validation": validation,
        "tokenizer": tokenizer,
        "train.steps": steps,
        "train.epochs": epochs,
        "train.minutes": minutes,
    }
    named: str | None = preset
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    if preset is not None and "=" in preset:  # settings over those of --config or --resume
        named, overrides = None, [preset, *(overrides or [])]
    given = [*(overrides or []), *given]
    if resume is not None:
        if named is not None or config_file is not None or fresh:
            raise UsageError("--resume takes the run's own settings: leave out the preset, --config and --fresh")
        result = resume_run(expanded(resume), given)
    else:
        if named is None and config_file is None:
            raise UsageError("say what to train: a preset (see `storylm presets`), --config FILE or --resume RUN")
        config = resolve(named, config_file, given).config
        result = train_run(config, out and expanded(out), fresh=fresh)
    raise typer.Exit(result.exit_code)

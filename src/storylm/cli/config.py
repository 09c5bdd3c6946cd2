"""`storylm config`: every setting and where its value came from."""

from pathlib import Path

import typer

from storylm.cli.options import preset_names


def config(
    preset: str | None = typer.Argument(
        None,
        help="A preset (see `storylm presets`); may be left out with --config.",
        autocompletion=preset_names,
    ),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings, as in optim.lr=1e-3."),
    config_file: Path = typer.Option(None, "--config", help="A YAML file of settings, over the preset's."),
) -> None:
    """Print all settings of a preset with where each came from; the output is a file for --config."""
    from storylm.config.load import resolve, to_yaml

    if preset is not None and "=" in preset:  # no preset, only settings
        preset, overrides = None, [preset, *(overrides or [])]
    resolved = resolve(preset, config_file, overrides or [])
    print(to_yaml(resolved.config, resolved.origins), end="")

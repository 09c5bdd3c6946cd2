"""`sweep.json`: what is known of each run of a sweep, by name; and where it is damaged, what the runs' folders say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storylm.config import plain_yaml
from storylm.config.errors import UserError
from storylm.config.files import write_text
from storylm.config.load import preset, preset_names
from storylm.config.schema import RunConfig
from storylm.training.run_folder import flat_settings, saved_config
from storylm.training.sweep.outcome import DONE, Outcome, figure_of, state_of, told

RECORD = "sweep.json"
Record = dict[str, dict[str, Any]]


def read(folder: Path, say: Callable[[str], None]) -> Record:
    """The record in `folder`; empty where there is none. `say` is told what is lost of a damaged one."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except (ValueError, KeyError, TypeError) as error:
        found = _made_anew(folder)
        say(
            f"{path} is damaged ({error}) and made anew from the settings of {len(found)} runs there: lost are what "
            "never began, why runs failed or diverged (they are run again), and which runs a --search made"
        )
        return found


def write(folder: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    write_text(folder / RECORD, json.dumps({"runs": record}, indent=1, ensure_ascii=False) + "\n")


def _made_anew(folder: Path) -> Record:
    """An entry for each run: its preset, and the settings that are not the preset's."""
    runs: dict[str, RunConfig] = {}
    for path in sorted(folder.iterdir()):
        try:
            config = saved_config(path)
        except UserError:  # a damaged run, which is refused where it is asked for again
            continue
        runs |= {} if config is None else {path.name: config}
    chosen = {name: _chosen(config) for name, config in runs.items()}
    presets = {name: {"preset": config.name} for name, config in runs.items()}
    settings = {name: presets[name] | chosen[name] for name in runs}
    # What is not in all runs alike varies; where a run has its preset's value, that is told.
    keys = list(dict.fromkeys(key for of in settings.values() for key in of))
    full = {
        name: {key: settings[name].get(key) or plain_yaml.inline(flat_settings(config).get(key)) for key in keys}
        for name, config in runs.items()
    }
    varied = [key for key in keys if len({of[key] for of in full.values()}) > 1]
    return {
        name: {
            "preset": config.name,
            "settings": [f"{key}={value}" for key, value in chosen[name].items()],
            "varied": {key: full[name][key] for key in varied},
            **_ended(folder / name),
        }
        for name, config in runs.items()
    }


def _ended(run: Path) -> dict[str, Any]:
    state = state_of(run)
    return told(Outcome(state["ended"], figure_of(state)), state) if state.get("ended") in DONE else {}


def _chosen(config: RunConfig) -> dict[str, str]:
    """The settings of a run, as text, that are not its preset's."""
    usual = flat_settings(preset(config.name)) if config.name in preset_names() else flat_settings(RunConfig())
    return {key: plain_yaml.inline(value) for key, value in flat_settings(config).items() if value != usual[key]}

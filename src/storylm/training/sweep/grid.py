"""The points of a sweep: presets, each with every combination of the values that settings are to take."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from storylm.config import plain_yaml
from storylm.config.errors import UsageError
from storylm.config.keys import FIELDS, choices, takes
from storylm.config.load import resolve
from storylm.config.schema import RunConfig
from storylm.data.sources import check_source

Values = dict[str, list[str]]
LONGEST_NAME = 80
# What only looks at a run: its figure is the best evaluation on the way, so all stories are not judged once more.
QUIET = {"train.judge_all": ["false"]}


@dataclass(frozen=True)
class Point:
    """One run: a preset, all its settings, and `varied`, those that tell it from the other points, as text."""

    name: str
    preset: str
    overrides: tuple[str, ...]
    varied: tuple[tuple[str, str], ...]

    @property
    def config(self) -> RunConfig:
        """The settings of the run. Raises `UsageError` where they cannot be."""
        return resolve(self.preset, None, self.overrides).config


@dataclass(frozen=True)
class Grid:
    """Presets, and the values of each setting, as text; one value: the same in all runs."""

    presets: tuple[str, ...]
    values: Mapping[str, Sequence[str]]

    def points(self) -> list[Point]:
        """Every combination, in order, the last setting changing fastest. Raises `UsageError` for a range."""
        for key, of in self.values.items():
            if ranges := [value for value in of if is_range(key, value)]:
                raise UsageError(
                    f"{key}={ranges[0]}: a range needs --search N; without it, name values with commas between"
                )
        names = list(self.values)
        return [
            self.point(preset, dict(zip(names, of, strict=True))) for preset in self.presets for of in self._product()
        ]

    def point(self, preset: str, settings: Mapping[str, str], name: str | None = None) -> Point:
        """One of them, or any other with these settings."""
        varied = {"preset": preset} if len(self.presets) > 1 else {}
        varied |= {key: value for key, value in settings.items() if len(self.values[key]) > 1}
        overrides = tuple(f"{key}={value}" for key, value in settings.items())
        return Point(name or _name(varied, preset), preset, overrides, tuple(varied.items()))

    def _product(self) -> product:
        return product(*self.values.values())


def read_grid(arguments: Sequence[str], file: Path | None = None) -> Grid:
    """A grid from `PRESET... KEY=VALUE,VALUE...`, over that of a YAML file.

        presets: [story-1m, story-5m]
        settings:
          train.minutes: 1
          optim.lr: [1e-3, 3e-3]

    A value that is a list itself, or has a comma, stands in brackets on the command line: `data.source=[a,b]` is one
    value, not two; in a file it stands in a list of lists.

    Raises:
        UsageError: no preset, an empty list, a file of another form.
    """
    presets, values = _read_file(file) if file else ([], {})
    presets = [argument for argument in arguments if "=" not in argument] or presets
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if equals:
            values[key.strip()] = split_values(text)
    if not presets:
        raise UsageError("say what to train: one or more presets (see `storylm presets`), or a file with `presets:`")
    if empty := [key for key, of in values.items() if not of]:
        raise UsageError(f"{empty[0]} has no values: give one or more, with commas between")
    return Grid(tuple(presets), {**QUIET, **values})


def split_values(text: str) -> list[str]:
    """The values between commas, but for those in brackets or quotes.

    >>> split_values('1e-3,3e-3'), split_values('[null,256],[null]')
    (['1e-3', '3e-3'], ['[null,256]', '[null]'])
    """
    found, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += letter
    return [value.strip() for value in found if value.strip()]


def check_stories(values: Mapping[str, Sequence[str]]) -> None:
    """Raise `DataError` where a source of stories is neither here nor could be on the Hub, before any run finds out."""
    for spec in (*values.get("data.source", ()), *values.get("data.validation", ())):
        if spec not in ("null", "~", ""):
            check_source(spec)


def is_range(key: str, value: str) -> bool:
    """Whether a value is meant as LOW..HIGH. Of a setting that is text, such as a path, it never is.

    >>> is_range("optim.lr", "1e-4..1e-2"), is_range("data.source", "../stories")
    (True, False)
    """
    return ".." in value and key in FIELDS and not takes(key, str) and not choices(key)


def _read_file(path: Path) -> tuple[list[str], Values]:
    try:
        content = plain_yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"there is no file {path}: --config wants a YAML file with `presets:` and `settings:`"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {path} as a YAML file of a sweep: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or set(content) - {"presets", "settings"}:
        raise UsageError(f"{path} is no sweep: it has `presets:`, a list, and `settings:`, each with its values")
    presets, settings = content.get("presets") or [], content.get("settings") or {}
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: `settings:` is a group of settings with their values, as in optim.lr: [1e-3, 3e-3]")
    as_lists = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    given = [presets] if isinstance(presets, str) else list(presets)
    return given, {key: [_text(value) for value in of] for key, of in as_lists.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else plain_yaml.inline(value)


def _name(varied: Mapping[str, str], preset: str) -> str:
    """A name for a folder: the last parts of what varies, and its values; hashed where a folder cannot be called so."""
    parts = [value if key == "preset" else f"{key.rpartition('.')[2]}={value}" for key, value in varied.items()]
    full = ",".join(parts) or preset
    plain = re.sub(r"[^\w.=+,-]+", "_", full)
    if plain == full and len(full) <= LONGEST_NAME:
        return full
    return f"{plain[: LONGEST_NAME - 9]}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"

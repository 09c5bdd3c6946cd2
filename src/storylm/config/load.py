"""Settings from a preset, a file and `key=value`, each replacing what came before, with the origin of every value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from storylm.config.errors import UsageError
from storylm.config.keys import FIELDS, GROUPS, allowed, choices, closest, suggestion, takes
from storylm.config.model import FAMILIES
from storylm.config.schema import RunConfig

Values = dict[str, Any]  # dotted name -> value

LENGTHS = ("train.steps", "train.epochs", "train.minutes")
# Settings that say the same thing in different ways: whoever gives one later means it instead of the other.
ALTERNATIVES = (LENGTHS, ("optim.warmup_steps", "optim.warmup_share"))
DERIVED = {
    "model.kv_heads": "model.heads",
    "model.head_dim": "model.width / model.heads",
    "model.ff_width": "4 x model.width",
}
# The order of `storylm presets`: our own, the published five, the wider family; by size within each.
_ORDER = ("story", "xs", "gpt2", "word", "nano", "mistral", "paper", "llama2c", "cs336", "simple")
_PRESETS = files("storylm.config") / "presets"
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True)
class Resolved:
    """A whole run's settings and, by dotted name, where each value came from.

    An origin is "default", "family gpt_neo", "preset xs-3m", "file my.yaml", "override", or the rule that
    a value follows from others by, such as "4 x model.width".
    """

    config: RunConfig
    origins: dict[str, str]


@dataclass(frozen=True)
class _Layer:
    origin: str
    values: Values


def preset(name: str) -> RunConfig:
    """The settings of a preset. Raises `UsageError` for a name there is no preset of.

    >>> preset("xs-3m").model.width
    64
    """
    return resolve(name).config


@cache
def preset_names() -> tuple[str, ...]:
    """Every preset: storylm's own recipes, the five systems it reproduces, the wider family; small ones first."""
    names = [path.name.removesuffix(".yaml") for path in _PRESETS.iterdir() if path.name.endswith(".yaml")]

    def rank(name: str) -> tuple[int, float, str]:
        kind, size = name.split("-")[0], name.split("-")[-1]
        thousands = float(size[:-1]) * {"k": 1, "m": 1000}[size[-1]]
        return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), thousands, name

    return tuple(sorted(names, key=rank))


def resolve(preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()) -> Resolved:
    """Preset, then file, then `key=value` overrides, each replacing what came before.

    A file may name the preset it builds on itself, as `base: story-5m`. Raises `UsageError`, one line, for
    unknown presets, files and settings and for values that are not allowed.

    >>> resolve("xs-3m", overrides=["optim.lr=1e-3", "train.minutes=2"]).origins["optim.lr"]
    'override'
    """
    layers = _preset_layers(preset) if preset is not None else []
    if file is not None:
        values = _read(_file_text(file), str(file))
        base = values.pop("base", None)
        if base is not None and preset is not None:
            raise UsageError(f"{file} builds on {base!r} itself: leave out the preset {preset!r} or the line 'base'")
        layers += _preset_layers(base) if base is not None else []
        layers.append(_Layer(f"file {file}", _flatten(values, f" in {file}")))
    return _build([*layers, _Layer("override", _parse(overrides))])


def apply_overrides(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The settings with `key=value` overrides. What followed from other settings before still does.

    >>> apply_overrides(preset("story-5m"), ["model.heads=8"]).model.head_dim
    32
    """
    return _build([_Layer("settings", _chosen(config)), _Layer("override", _parse(overrides))]).config


def from_yaml(text: str, where: str) -> RunConfig:
    """Settings from YAML text; what it leaves out has its default. `where` names it in errors."""
    return _build([_Layer(where, _flatten(_read(text, where), f" in {where}"))]).config


def to_yaml(config: RunConfig) -> str:
    """All settings as YAML; `from_yaml` gives the same settings back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flatten(config: RunConfig) -> Values:
    """Every setting by its dotted name, as plain YAML values."""
    return _flatten(config.model_dump(mode="json"))


# -- reading ---------------------------------------------------------------------------------------------


def _preset_layers(name: str) -> list[_Layer]:
    if name not in preset_names():
        hint = closest(name, list(preset_names()))
        raise UsageError(f"there is no preset {name!r}{hint}{' see `storylm presets`' if hint else ': see `storylm presets`'}")
    values = _read((_PRESETS / f"{name}.yaml").read_text(encoding="utf-8"), name)
    base = values.pop("base", None)
    layers = _preset_layers(base) if base is not None else []
    return [*layers, _Layer(f"preset {name}", _flatten(values, f" in preset {name}"))]


def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}: --config wants a YAML file of settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} as a YAML file of settings: {error}") from error


def _read(text: str, where: str) -> dict:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{where} holds no settings: write them as 'optim:' and, indented below it, 'lr: 0.001'")
    return values


def _flatten(tree: Mapping, where: str = "", prefix: str = "") -> Values:
    values: Values = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in GROUPS and isinstance(value, Mapping):
            values |= _flatten(value, where, f"{name}.")
        elif name in GROUPS:
            if value is not None:  # a group with all its lines commented out is empty
                raise UsageError(f"'{name}'{where} is a group of settings, not {value!r}: set one of {_members(name)}")
        elif name in FIELDS:
            values[name] = _spell(name, value)
        else:
            raise UsageError(f"unknown setting '{name}'{where}{suggestion(name) or _known(prefix)}")
    return values


def _parse(overrides: Sequence[str]) -> Values:
    values: Values = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"{override!r} is no setting: write key=value, as in optim.lr=1e-3")
        key = key.strip()
        value: Any = text
        # Text stays as it is, so that "on", "12" and "a: b" need no quotes.
        textual = key in FIELDS and (choices(key) or takes(key, str))
        if not textual or (text in ("null", "~", "") and takes(key, type(None))):
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                raise UsageError(f"{override!r}: the value is not valid YAML{_expected(key)}") from None
        tree: Any = value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        values |= _flatten(tree)
    return values


def _spell(name: str, value: Any) -> Any:
    """Undo what YAML 1.1 makes of 1e-3 (text) and of on and off (true and false)."""
    if isinstance(value, list):
        return [_spell(name, item) for item in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value) and not takes(name, str):
        return float(value)
    if isinstance(value, bool) and {"on", "off"} <= set(choices(name)):
        return "on" if value else "off"
    return value


# -- merging ---------------------------------------------------------------------------------------------


def _build(layers: Sequence[_Layer]) -> Resolved:
    """Merge the layers, validate the whole, and say where each value came from."""
    values: Values = {}
    origins: dict[str, str] = {}
    for layer in layers:
        lengths = [name for name in LENGTHS if layer.values.get(name) is not None]
        if len(lengths) > 1:
            raise UsageError(f"{' and '.join(lengths)} are both set ({layer.origin}): say how long to train in one of them")
        for rivals in ALTERNATIVES:
            if any(layer.values.get(name) is not None for name in rivals):
                for name in rivals:
                    values.pop(name, None)
                    origins.pop(name, None)
        values |= layer.values
        origins |= dict.fromkeys(layer.values, layer.origin)
    for name, value in values.items():
        if isinstance(value, bool) and not takes(name, bool):  # pydantic would read true as 1
            raise UsageError(_wrong(name, value, origins[name]))
    try:
        config = RunConfig.model_validate(_nest(values))
    except ValidationError as error:
        raise UsageError("; ".join(dict.fromkeys(_explain(error, values, origins)))) from error
    return Resolved(config, {name: origins.get(name) or _default_origin(name, config) for name in FIELDS})


def _nest(values: Values) -> dict:
    tree: dict = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return tree


def _chosen(config: RunConfig) -> Values:
    """The settings that are not what they would be anyway: by default, by family, or derived from others."""
    values = flatten(config)
    model = config.model
    anyway = {name: field.get_default() for name, field in FIELDS.items()}
    anyway |= {f"model.{name}": value for name, value in FAMILIES[model.family].items()}
    anyway |= {
        "model.kv_heads": model.heads,
        "model.head_dim": model.width // model.heads,
        "model.ff_width": 4 * model.width,
    }
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in anyway.items()}
    return {name: value for name, value in values.items() if value != plain[name]}


def _default_origin(name: str, config: RunConfig) -> str:
    if name in DERIVED:
        return DERIVED[name]
    group, _, last = name.rpartition(".")
    return f"family {config.model.family}" if group == "model" and last in FAMILIES[config.model.family] else "default"


# -- explaining ------------------------------------------------------------------------------------------


def _explain(error: ValidationError, values: Values, origins: dict[str, str]) -> Iterator[str]:
    for mistake in error.errors():
        parts = [str(part) for part in mistake["loc"]]
        name = next((known for end in range(len(parts), 0, -1) if (known := ".".join(parts[:end])) in FIELDS), None)
        if name is not None:
            yield _wrong(name, values.get(name), origins.get(name, "default"))
        else:
            group = f"{'.'.join(parts)}: " if parts else ""
            yield group + mistake["msg"].removeprefix("Value error, ")


def _wrong(name: str, value: Any, origin: str) -> str:
    shown = "null" if value is None else value
    hint = closest(str(value), choices(name)) if choices(name) else ""
    source = "" if origin == "override" else f" ({origin})"
    return f"{name}={shown}{source} cannot be used: allowed is {allowed(name)}{hint}"


def _expected(name: str) -> str:
    return f"; allowed is {allowed(name)}" if name in FIELDS else suggestion(name)


def _known(prefix: str) -> str:
    return f": allowed here are {_members(prefix[:-1])}"


def _members(group: str) -> str:
    start = f"{group}." if group else ""
    return ", ".join(dict.fromkeys(name.removeprefix(start).split(".")[0] for name in FIELDS if name.startswith(start)))

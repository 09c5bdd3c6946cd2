"""Settings from a preset, a file and `key=value`, each replacing what came before, with the origin of every value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from storylm.config.base import Settings
from storylm.config.errors import UsageError
from storylm.config.keys import FIELDS, allowed, choices, closest, takes
from storylm.config.model import FAMILIES
from storylm.config.schema import RunConfig
from storylm.config.values import Values, flatten, nest, parse_overrides, read_yaml, write_yaml

LENGTHS = ("train.steps", "train.epochs", "train.minutes")
# Settings that say the same thing in different ways: whoever gives one later means it instead of the other.
ALTERNATIVES = (LENGTHS, ("optim.warmup_steps", "optim.warmup_share"))
DERIVED = {
    "model.kv_heads": "as model.heads",
    "model.head_dim": "model.width / model.heads",
    "model.ff_width": "4 x model.width",
}
# The order of `storylm presets`: our own, the published five, the wider family; by size or time within each.
_ORDER = ("story", "grammar", "minutes", "xs", "gpt2", "word", "nano", "mistral", "paper", "llama2c", "cs336", "simple")
_PRESETS = files("storylm.config") / "presets"


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


def preset_names() -> list[str]:
    """Every preset: storylm's own recipes, the five systems it reproduces, the wider family; small ones first."""
    names = [path.name.removesuffix(".yaml") for path in _PRESETS.iterdir() if path.name.endswith(".yaml")]

    def rank(name: str) -> tuple[int, float, str]:
        kind, size = name.split("-")[0], name.split("-")[-1]
        thousands = float(size.rstrip("km")) * (1000 if size.endswith("m") else 1)
        return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), thousands, name

    return sorted(names, key=rank)


def resolve(preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()) -> Resolved:
    """Preset, then file, then `key=value` overrides, each replacing what came before.

    A file may name the preset it builds on itself, as `base: story-5m`. Raises `UsageError`, one line, for
    unknown presets, files and settings and for values that are not allowed.

    >>> resolve("xs-3m", overrides=["optim.lr=1e-3", "train.minutes=2"]).origins["optim.lr"]
    'override'
    """
    layers = _preset_layers(preset) if preset is not None else []
    if file is not None:
        values = read_yaml(_file_text(file), str(file))
        base = values.pop("base", None)
        if base is not None and preset is not None:
            raise UsageError(f"{file} builds on {base!r} itself: leave out the preset {preset!r} or the line 'base'")
        layers += _preset_layers(str(base)) if base is not None else []
        layers.append(_Layer(f"file {file}", flatten(values, f" in {file}")))
    return _build([*layers, _Layer("override", parse_overrides(overrides))])


def apply_overrides(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The settings with `key=value` overrides. What followed from other settings before still does.

    >>> apply_overrides(preset("story-5m"), ["model.heads=8"]).model.head_dim
    32
    """
    return _build([_Layer("settings", _chosen(config)), _Layer("override", parse_overrides(overrides))]).config


def check_value(override: str) -> None:
    """Raise `UsageError` where a `key=value` can never be, whatever the other settings are.

    >>> check_value("model.heads=3")
    """
    for name, value in parse_overrides([override]).items():
        try:
            if isinstance(value, bool) and not takes(name, bool):
                raise ValueError
            kind: Any = FIELDS[name].annotation
            create_model("Setting", __base__=Settings, value=(kind, FIELDS[name])).model_validate({"value": value})
        except ValueError as error:  # a ValidationError is one
            raise UsageError(_wrong(name, value, "override")) from error


def from_yaml(text: str, where: str) -> RunConfig:
    """Settings from YAML text; what it leaves out has its default. `where` names it in errors."""
    return _build([_Layer(where, flatten(read_yaml(text, where), f" in {where}"))]).config


def to_yaml(config: RunConfig, origins: Mapping[str, str] | None = None) -> str:
    """All settings as YAML, with their origins as comments if given; `from_yaml` gives the same settings back."""
    return write_yaml(flatten(config.model_dump(mode="json")), origins)


# -- reading ---------------------------------------------------------------------------------------------


def _preset_layers(name: str) -> list[_Layer]:
    if name not in preset_names():
        raise UsageError(f"there is no preset {name!r}{closest(name, preset_names()) or '; see `storylm presets`'}")
    values = read_yaml((_PRESETS / f"{name}.yaml").read_text(encoding="utf-8"), name)
    base = values.pop("base", None)
    layers = _preset_layers(base) if base is not None else []
    return [*layers, _Layer(f"preset {name}", flatten(values, f" in preset {name}"))]


def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}: --config wants a YAML file of settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} as a YAML file of settings: {error}") from error


# -- merging ---------------------------------------------------------------------------------------------


def _build(layers: Sequence[_Layer]) -> Resolved:
    """Merge the layers, validate the whole, and say where each value came from."""
    values: Values = {}
    origins: dict[str, str] = {}
    for layer in layers:
        lengths = [name for name in LENGTHS if layer.values.get(name) is not None]
        if len(lengths) > 1:
            raise UsageError(
                f"{' and '.join(lengths)} are both set ({layer.origin}): say how long to train in one of them"
            )
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
        config = RunConfig.model_validate(nest(values))
    except ValidationError as error:
        raise UsageError("; ".join(dict.fromkeys(_explain(error, values, origins)))) from error
    return Resolved(config, {name: origins.get(name) or _default_origin(name, config) for name in FIELDS})


def _chosen(config: RunConfig) -> Values:
    """The settings that are not what they would be anyway: by default, by family, or derived from others."""
    values = flatten(config.model_dump(mode="json"))
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
    shown = " ".join(str(value).split())  # one line
    shown = {"None": "null", "True": "true", "False": "false"}.get(shown, shown)
    hint = closest(str(value), choices(name)) if choices(name) else ""
    source = "" if origin == "override" else f" ({origin})"
    return f"{name}={shown}{source} cannot be used: allowed is {allowed(name)}{hint}"

"""config.json: a `ModelConfig` as the native classes of transformers state it, and back.

Everything particular to a family stands in the table `family_classes.CLASSES`; a setting without a row there
is what `config.model.FAMILIES` says it is in that family. Whatever a family cannot express comes out of reading
back what was written: a difference that transformers would not notice goes into a block of our own, any
other is refused.
"""

from typing import Any

from pydantic import ValidationError

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.model import ModelConfig
from storylm.model.family_classes import CLASSES, REQUIRED, TransformersClass
from storylm.text.tokenizer import Tokenizer

# What means nothing to transformers, at least nothing that changes a score: kept in config.json under "storylm".
OWN_BLOCK = "storylm"
OWN_SETTINGS = ("dropout", "init_outputs", "rope_layout")

ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "silu": "silu", "relu": "relu", "relu2": "relu2"}
_READ_ACTIVATIONS = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "swish": "silu",
}
# Keys that change what a model computes: known with these values only.
UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "add_cross_attention": (None, False),
    "scale_attn_by_inverse_layer_idx": (None, False),
    "scale_attn_weights": (None, True),  # which transformers 4 obeys in some of its kinds of attention only
    "partial_rotary_factor": (None, 1, 1.0),
}


def to_config_json(config: ModelConfig, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """The config.json of a model with fp32 weights, for transformers 4 and 5.

    >>> to_config_json(ModelConfig(family="llama", rope_theta=5e5))["rope_parameters"]
    {'rope_type': 'default', 'rope_theta': 500000.0}

    Raises:
        UsageError: the family's class in transformers has no such model.
    """
    theirs = CLASSES[config.family]
    values: dict[str, Any] = {
        "model_type": config.family,
        "architectures": [theirs.architecture],
        "dtype": "float32",  # the name in transformers 5
        "torch_dtype": "float32",  # and in 4
        "use_cache": True,
        # The classes' own defaults are ids of their first models, often beyond our vocabulary: never leave them out.
        "bos_token_id": tokenizer.start_id if tokenizer else None,
        "eos_token_id": tokenizer.end_id if tokenizer else None,
    }
    for setting, key in theirs.keys.items():
        values[key] = _written(setting, getattr(config, setting))
    if config.positions == "rotary":
        # transformers 4 reads rope_theta and silently ignores this; 5 means to drop rope_theta.
        values["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
    values |= dict.fromkeys(theirs.dropouts, config.dropout)
    values |= theirs.windows.write([config.window(layer) for layer in range(config.layers)])
    if theirs.heads_divide_width and config.width % config.heads:
        raise UsageError(
            f"{theirs.architecture} of transformers needs width={config.width} to divide into heads={config.heads}: "
            "change one of them, or the family to qwen3"
        )
    values[OWN_BLOCK] = _unsaid(config, from_config_json(values), theirs)
    return values


def from_config_json(values: dict[str, Any]) -> ModelConfig:
    """The model that a config.json describes, as transformers reads it.

    Several dropout rates become one, the largest: they matter to further training only.

    Raises:
        CheckpointError: not one of our families, a setting we do not compute, a missing or impossible value.
    """
    family = values.get("model_type")
    theirs = CLASSES.get(family) if isinstance(family, str) else None
    if theirs is None:
        raise CheckpointError(f"config.json: model_type {family!r} is not one of {', '.join(CLASSES)}")
    for key, allowed in UNDERSTOOD.items():
        if values.get(key) not in allowed:
            raise CheckpointError(f"config.json: {key}={values[key]!r} is not supported")
    try:
        return ModelConfig(**{"family": family, **_settings({**theirs.absent, **values}, theirs)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        key = theirs.keys.get(where, where)
        raise CheckpointError(f"config.json: {f'{key}: ' if key else ''}{first['msg']}") from error
    except (TypeError, ValueError, AttributeError) as error:  # a list where a number belongs, and the like
        raise CheckpointError(f"config.json is damaged: {error}") from error


def _settings(said: dict[str, Any], theirs: TransformersClass) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for setting, key in theirs.keys.items():
        if setting in REQUIRED and said.get(key) is None:
            raise CheckpointError(f"config.json lacks {key}")
        if said.get(key) is not None:
            settings[setting] = _read(setting, key, said[key])
    if "rope_theta" in theirs.keys:
        settings |= _rope(said)
    settings["dropout"] = max(float(said.get(key) or 0.0) for key in theirs.dropouts)
    settings["windows"] = theirs.windows.read(said, int(settings["layers"]))
    own = said.get(OWN_BLOCK) or {}
    if not set(own) <= set(OWN_SETTINGS):
        raise CheckpointError(f"config.json: {OWN_BLOCK}={own!r} is of another version of storylm: update storylm")
    return settings | own


def _written(setting: str, value: Any) -> Any:
    if setting == "activation":
        return ACTIVATIONS[value]
    return value


def _read(setting: str, key: str, value: Any) -> Any:
    if setting == "activation":
        if value not in _READ_ACTIVATIONS:
            raise CheckpointError(f"config.json: {key}={value!r} is not one of {', '.join(_READ_ACTIVATIONS)}")
        return _READ_ACTIVATIONS[value]
    return value


def _rope(values: dict[str, Any]) -> dict[str, float]:
    """rope_theta, from `rope_parameters` (transformers 5) or beside `rope_scaling` (4); other kinds are refused."""
    parameters = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default" or any(isinstance(value, dict) for value in parameters.values()):
        raise CheckpointError(f"config.json: rotary positions of the kind {parameters!r} are not supported")
    if parameters.get("partial_rotary_factor", 1) != 1:
        raise CheckpointError("config.json: partial_rotary_factor is not supported: all features rotate")
    said = {float(theta) for theta in (parameters.get("rope_theta"), values.get("rope_theta")) if theta is not None}
    if len(said) > 1:
        raise CheckpointError(f"config.json gives two values of rope_theta, {' and '.join(map(str, sorted(said)))}")
    return {"rope_theta": said.pop()} if said else {}


def _unsaid(config: ModelConfig, read: ModelConfig, theirs: TransformersClass) -> dict[str, Any]:
    """The settings that reading back does not give; refused if one of them would change the model's scores."""
    own = {}
    for setting in ModelConfig.model_fields:
        wanted, got = (_meaning(side, setting) for side in (config, read))
        if wanted == got:
            continue
        if setting not in OWN_SETTINGS:
            raise UsageError(
                f"a model with {setting}={wanted} cannot be saved as {config.family}: {theirs.architecture} of "
                f"transformers would take it for {setting}={got}; change the setting, or the family"
            )
        own[setting] = wanted
    return own


def _meaning(config: ModelConfig, setting: str) -> Any:
    """A setting in the one form that is equal where the models are."""
    if setting == "windows":
        return [config.window(layer) for layer in range(config.layers)]
    if setting == "attention_scale":
        return config.scale
    if setting in ("rope_theta", "rope_layout") and config.positions != "rotary":
        return None
    return getattr(config, setting)

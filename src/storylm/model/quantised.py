"""Matrices in 8 bits, in a model folder of our own kind: a quarter of the size, and fp32 again once it is loaded.

    model.int8.safetensors    matrices as `<name>` in int8 and `<name>_scale` in fp32, one for each output channel;
                              vectors as they are
    config.json               model_type "storylm_int8", and the real one as "storylm_family"

Other programs would take the integers for weights. They do not come so far: to AutoModel of transformers the model_type
is unknown, and a class that is asked for by name finds no weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from storylm.config.errors import CheckpointError
from storylm.model.int8 import int8_rows
from storylm.model.tensor_names import Names

MODEL_TYPE = "storylm_int8"
INT8_WEIGHTS = "model.int8.safetensors"
_FAMILY, _SCALE = "storylm_family", "_scale"


def marked(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as that of such a folder."""
    values = {key: value for key, value in config_json.items() if key not in ("architectures", "dtype", "torch_dtype")}
    return {**values, "model_type": MODEL_TYPE, _FAMILY: config_json["model_type"]}


def is_marked(config_json: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of such a folder."""
    return config_json.get("model_type") == MODEL_TYPE


def unmarked(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `marked`."""
    values = {key: value for key, value in config_json.items() if key != _FAMILY}
    return {**values, "model_type": config_json.get(_FAMILY)}


def quantised(weights: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Every matrix of a file as int8 with its scales, so that the largest number of an output channel is 127.

    Scales are [outputs, 1], or [1, outputs] for matrices stored the other way round: weight = int8 * scale. Quantising
    what `dequantised` gives yields the same integers.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2:
            found[name] = tensor
            continue
        turned = names.is_transposed(name)
        numbers_NM, scales_N = int8_rows(tensor.T if turned else tensor)
        found[name] = (numbers_NM.T if turned else numbers_NM).contiguous()
        found[name + _SCALE] = scales_N[None] if turned else scales_N[:, None]
    return found


def dequantised(file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in fp32.

    Raises:
        CheckpointError: numbers without their scales, scales without their numbers, or of other shapes.
    """
    scales = {name.removesuffix(_SCALE): tensor for name, tensor in file.items() if name.endswith(_SCALE)}
    weights = {name: tensor for name, tensor in file.items() if not name.endswith(_SCALE)}
    for name in scales.keys() | {name for name, tensor in weights.items() if tensor.dtype == torch.int8}:
        numbers, scale = weights.get(name), scales.get(name)
        if numbers is None or scale is None:
            raise CheckpointError(f"{INT8_WEIGHTS} is damaged: it lacks {name if numbers is None else name + _SCALE}")
        rows, columns = numbers.shape if numbers.ndim == 2 else (0, 0)
        if numbers.dtype != torch.int8 or list(scale.shape) not in ([rows, 1], [1, columns]):
            raise CheckpointError(
                f"{INT8_WEIGHTS} is damaged: {name} of {numbers.dtype}, {list(numbers.shape)}, does not go with scales "
                f"{list(scale.shape)}"
            )
        weights[name] = numbers.float() * scale
    return weights

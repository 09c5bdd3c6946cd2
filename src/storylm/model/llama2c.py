"""Read llama2.c's `.bin` models: headers of integers, then weights in a fixed order.

Version 0 ("legacy", what `stories15M.bin` and its siblings are) starts at once with seven integers, a
negative vocabulary standing for a head of its own, and carries tables of rotary angles. Versions 1 and 2 start
with "ak42", a version and the seven integers in 256 bytes, and order the weights otherwise. In version 2 the
matrices are in 8 bits: numbers of int8, then an fp32 scale for each group of them.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from storylm.config.errors import CheckpointError
from storylm.config.model import ModelConfig
from storylm.model.tensor_names import with_layout
from storylm.model.transformer import Transformer

MAGIC = 0x616B3432  # "ak42"
LEGACY = struct.Struct("<7i")
VERSIONED = struct.Struct("<Ii7iB")
GROUP = struct.Struct("<i")  # follows in version 2
HEADER_BYTES = 256  # of versioned files
NORM_EPS = 1e-5  # in the C code
SIZES = ("width", "ff_width", "layers", "heads", "kv_heads", "vocab_size", "context")
"""The seven integers."""

TABLES = ("cos", "sin")
"""Rotary angles, [context, head_dim / 2], that the C code passes over."""

# Ours in the order of the file. A name with a * stands for all layers, one after the other.
_ATTENTION = [f"blocks.*.attention.{name}.weight" for name in ("q", "k", "v", "out")]
_FF = [f"blocks.*.ff.{name}.weight" for name in ("gate", "down", "up")]
_NORM_1, _NORM_2 = "blocks.*.attention_norm.weight", "blocks.*.ff_norm.weight"
_VERSIONED_ORDER = [_NORM_1, _NORM_2, "norm.weight", "embedding.weight", *_ATTENTION, *_FF, "head.weight"]
ORDERS = {
    0: ["embedding.weight", _NORM_1, *_ATTENTION, _NORM_2, *_FF, "norm.weight", *TABLES, "head.weight"],
    1: _VERSIONED_ORDER,
    2: _VERSIONED_ORDER,
}


def read_llama2c(path: str | Path) -> Transformer:
    """The model in a llama2.c file, as a llama whose rotary features are in halves, as transformers has them.

    >>> read_llama2c("stories260K.bin").config.vocab_size                           # doctest: +SKIP
    512

    Raises:
        CheckpointError: missing, cut short, or not such a file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    version, settings, group, start = _header(path, data)
    try:
        config = ModelConfig(**settings)
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in Transformer(config).state_dict().items()}
    except (ValidationError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a llama2.c model: its header makes no sense ({settings})") from error
    names = names_in_order(config, version)
    shapes |= dict.fromkeys(TABLES, torch.Size([config.context, config.head_dim // 2]))
    expected = start + sum(_bytes(shapes[name], group) for name in names)
    if len(data) != expected or any(shapes[name][-1] % (group or 1) for name in names if len(shapes[name]) > 1):
        raise CheckpointError(
            f"{path} has {len(data):,} bytes, but a llama2.c model with its header has {expected:,}: "
            "it is cut short or not such a file"
        )
    weights = {}
    for name in names:
        tensor = _read(data, start, shapes[name], group)
        start += _bytes(shapes[name], group)
        if name not in TABLES:
            weights[name] = with_layout(name, tensor, config, "half", "interleaved")
    with torch.random.fork_rng(devices=[]):
        model = Transformer(config)
    model.load_state_dict(weights)
    return model.eval()


def names_in_order(config: ModelConfig, version: int) -> list[str]:
    """The parameters of a model in the order of such a file, with `TABLES` where it has them."""
    return [
        name.replace("*", str(layer))
        for name in ORDERS[version]
        for layer in range(config.layers if "*" in name else 1)
        if name != "head.weight" or not config.tied
    ]


def _header(path: str | Path, data: bytes) -> tuple[int, dict[str, Any], int, int]:
    """The version, the model's settings, how many numbers share a scale (0: none), and where weights start."""
    if len(data) < HEADER_BYTES:
        raise CheckpointError(f"{path} has {len(data)} bytes: it is cut short or not a llama2.c model")
    group = 0
    if int.from_bytes(data[:4], "little") == MAGIC:
        _, version, *sizes, tied = VERSIONED.unpack_from(data)
        start = HEADER_BYTES
        if version not in ORDERS or version == 0:
            raise CheckpointError(f"{path} is llama2.c's version {version}; storylm reads versions 0, 1 and 2")
        if version == 2:
            (group,) = GROUP.unpack_from(data, VERSIONED.size)
    else:
        version, sizes = 0, list(LEGACY.unpack_from(data))
        start, tied = LEGACY.size, sizes[5] > 0
        sizes[5] = abs(sizes[5])
    settings = dict(zip(SIZES, sizes, strict=True))
    if min(sizes) < 1 or max(sizes) > 2**20 or settings["layers"] > 1000 or (version == 2 and group < 1):
        raise CheckpointError(f"{path} is not a llama2.c model: its header makes no sense ({settings})")
    return version, {**settings, "family": "llama", "norm_eps": NORM_EPS, "tied": bool(tied)}, group, start


def _bytes(shape: torch.Size, group: int) -> int:
    """What a tensor takes in the file; vectors are never in 8 bits."""
    count = shape.numel()
    return count + 4 * (count // group) if group and len(shape) > 1 else 4 * count


def _read(data: bytes, start: int, shape: torch.Size, group: int) -> Tensor:
    count = shape.numel()
    if not group or len(shape) == 1:
        return torch.from_numpy(np.frombuffer(data, "<f4", count, start).copy()).view(shape)
    numbers = np.frombuffer(data, np.int8, count, start).reshape(-1, group)
    scales = np.frombuffer(data, "<f4", count // group, start + count)
    return torch.from_numpy(numbers * scales[:, None]).view(shape)

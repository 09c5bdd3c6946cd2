"""Read llama2.c's `.bin` models: headers of integers, then fp32 weights in a fixed order.

Version 0 ("legacy", what `stories15M.bin` and its siblings are) starts at once with seven integers, a
negative vocabulary standing for a head of its own, and carries tables of rotary angles. Version 1 starts
with "ak42", a version and the seven integers in 256 bytes, and orders the weights otherwise.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from storylm.config.errors import CheckpointError
from storylm.config.model import ModelConfig
from storylm.model.tensor_names import in_halves
from storylm.model.transformer import Transformer

_MAGIC = 0x616B3432  # "ak42"
_LEGACY = struct.Struct("<7i")
_VERSIONED = struct.Struct("<Ii7iB")
_HEADER_BYTES = 256  # of versioned files
_RMS_NORM_EPS = 1e-5  # in the C code

# Ours in the order of the file. A name with a * stands for all layers, one after the other.
_ATTENTION = [f"blocks.*.attention.{name}.weight" for name in ("q", "k", "v", "out")]
_FF = [f"blocks.*.ff.{name}.weight" for name in ("gate", "down", "up")]
_NORM_1, _NORM_2 = "blocks.*.attention_norm.weight", "blocks.*.ff_norm.weight"
ORDERS = {
    0: ["embedding.weight", _NORM_1, *_ATTENTION, _NORM_2, *_FF, "norm.weight", "angles", "angles", "head.weight"],
    1: [_NORM_1, _NORM_2, "norm.weight", "embedding.weight", *_ATTENTION, *_FF, "head.weight"],
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
    version, settings, start = _header(path, data)
    try:
        config = ModelConfig(**settings)
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in Transformer(config).state_dict().items()}
    except (ValidationError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a llama2.c model: its header makes no sense ({settings})") from error
    shapes["angles"] = torch.Size([config.context, config.head_dim // 2])
    names = [
        name.replace("*", str(layer))
        for name in ORDERS[version]
        for layer in range(config.layers if "*" in name else 1)
        if name in shapes or "*" in name
    ]
    expected = start + 4 * sum(shapes[name].numel() for name in names)
    if len(data) != expected:
        raise CheckpointError(
            f"{path} has {len(data):,} bytes, but a llama2.c model with its header has {expected:,}: "
            "it is cut short or not such a file"
        )
    weights = {}
    for name in names:
        count = shapes[name].numel()
        weights[name] = torch.from_numpy(np.frombuffer(data, "<f4", count, start).copy()).view(shapes[name])
        if name.endswith(("attention.q.weight", "attention.k.weight")):
            weights[name] = in_halves(weights[name], config.head_dim)
        start += 4 * count
    weights.pop("angles", None)
    with torch.random.fork_rng(devices=[]):
        model = Transformer(config)
    model.load_state_dict(weights)
    return model.eval()


def _header(path: str | Path, data: bytes) -> tuple[int, dict[str, Any], int]:
    """The version, the model's settings, and where weights start."""
    if len(data) < _HEADER_BYTES:
        raise CheckpointError(f"{path} has {len(data)} bytes: it is cut short or not a llama2.c model")
    if int.from_bytes(data[:4], "little") == _MAGIC:
        _, version, *sizes, tied = _VERSIONED.unpack_from(data)
        if version != 1:
            raise CheckpointError(f"{path} is llama2.c's version {version}; storylm reads the fp32 versions, 0 and 1")
        start = _HEADER_BYTES
    else:
        version, sizes = 0, list(_LEGACY.unpack_from(data))
        start, tied = _LEGACY.size, sizes[5] > 0
        sizes[5] = abs(sizes[5])
    keys = ("width", "ff_width", "layers", "heads", "kv_heads", "vocab_size", "context")
    settings = dict(zip(keys, sizes, strict=True))
    if min(sizes) < 1 or max(sizes) > 2**20 or settings["layers"] > 1000:
        raise CheckpointError(f"{path} is not a llama2.c model: its header makes no sense ({settings})")
    return version, {**settings, "family": "llama", "norm_eps": _RMS_NORM_EPS, "tied": bool(tied)}, start

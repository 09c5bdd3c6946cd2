"""llama2.c's files: `model.bin` in fp32 (versions 0 and 1) or in 8 bits (version 2), and `tokenizer.bin`.

    run model.bin -z tokenizer.bin             version 0
    runq model.bin -z tokenizer.bin            version 2

What is where is said in `storylm.model.llama2c`, which reads them; source: llama2.c's export.py and tokenizer.py.
"""

import struct
from pathlib import Path

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.config.files import atomic_file
from storylm.config.model import ModelConfig
from storylm.export.vocabulary import Kind, vocabulary
from storylm.model.llama2c import (
    GROUP,
    HEADER_BYTES,
    LEGACY,
    MAGIC,
    NORM_EPS,
    SIZES,
    TABLES,
    VERSIONED,
    names_in_order,
)
from storylm.model.tensor_names import with_layout
from storylm.model.transformer import Transformer
from storylm.text.sentencepiece import SPACE
from storylm.text.tokenizer import Tokenizer

VERSIONS = {"f32": 0, "f32-v1": 1, "int8": 2}
"""Ours and the file's names of its precisions."""

FAMILIES = ("llama", "mistral")  # which are one where no window is in use
LARGEST_GROUP = 64  # numbers that share a scale, in version 2
_SMALLEST_GROUP = 4  # where numbers take 2 bytes with their scales; below, they save no room
# What does not change the scores of a trained model, is turned round in writing, or is looked at apart.
_FREE = {"dropout", "init_std", "init_outputs", "rope_layout", "windows", "attention_scale"}


def check_llama2c(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """What is worth knowing about such a file.

    Raises:
        UsageError: the file's seven integers cannot say what the model is.
    """
    if config.family not in FAMILIES:
        raise UsageError(f"llama2.c knows llamas alone, not {config.family}: export to gguf, hf or onnx")
    sizes = {name: getattr(config, name) for name in SIZES}
    needed = ModelConfig(family=config.family, norm_eps=NORM_EPS, tied=config.tied, **sizes)
    differences = [
        f"model.{name}={getattr(config, name)}"
        for name in ModelConfig.model_fields
        if name not in _FREE and getattr(config, name) != getattr(needed, name)
    ]
    if config.scale != config.head_dim**-0.5:
        differences.append(f"model.attention_scale={config.attention_scale}")
    if any(window is not None and window < config.context for window in config.windows):
        differences.append(f"model.windows={list(config.windows)}")
    if differences:
        raise UsageError(
            f"llama2.c knows llamas with norm_eps={NORM_EPS} alone, and none with {', '.join(differences)}: "
            "export to gguf, hf or onnx"
        )
    if not has_form(tokenizer, config):
        return [
            "no tokenizer.bin is written: llama2.c's programs cut text as SentencePiece does, and no tokenizer else"
        ]
    return []


def has_form(tokenizer: Tokenizer | None, config: ModelConfig) -> bool:
    """Whether there can be a tokenizer.bin."""
    try:
        return tokenizer is not None and not vocabulary(tokenizer, config.vocab_size).byte_level
    except UsageError:
        return False


def write_llama2c(model: Transformer, path: str | Path, precision: str = "f32") -> None:
    """Write the weights as `storylm.model.llama2c.read_llama2c` reads them.

    Raises:
        UsageError: a model that llama2.c has no form for, or an unknown precision.
    """
    if precision not in VERSIONS:
        raise UsageError(f"precision {precision!r} is not known to llama2.c: choose one of {', '.join(VERSIONS)}")
    config, version = model.config, VERSIONS[precision]
    check_llama2c(config, None)
    group = group_size(config) if version == 2 else 0
    weights = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    weights |= dict(zip(TABLES, _angles(config), strict=True))
    with atomic_file(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(_header(config, version, group))
        for name in names_in_order(config, version):
            tensor = with_layout(name, weights[name], config, "interleaved")
            for part in quantised(tensor, group) if group and tensor.ndim > 1 else (tensor,):
                file.write(part.contiguous().numpy().tobytes())


def write_tokenizer(tokenizer: Tokenizer, config: ModelConfig, path: str | Path) -> None:
    """Write a SentencePiece vocabulary as llama2.c's `tokenizer.bin`.

    Raises:
        UsageError: its programs cannot cut text in any other way.
    """
    words = vocabulary(tokenizer, config.vocab_size)
    if words.byte_level:
        raise UsageError(f"tokenizer {tokenizer.name} has no form in llama2.c, which cannot cut text as GPT-2 does")
    rows = [
        (token.score, (f"\n{token.text}\n" if token.kind is Kind.CONTROL else token.text.replace(SPACE, " ")).encode())
        for token in words.tokens
    ]
    with atomic_file(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<I", max(len(text) for _, text in rows)))
        for score, text in rows:
            file.write(struct.pack("<fI", score, len(text)) + text)


def group_size(config: ModelConfig) -> int:
    """How many numbers share a scale: a divisor of every row, as `runq` has no scales across rows.

    Raises:
        UsageError: there is none that would save room.
    """
    group = LARGEST_GROUP
    while config.width % group or config.ff_width % group:
        group //= 2
    if group < _SMALLEST_GROUP:
        raise UsageError(
            f"llama2.c's 8 bits need a width and an ff_width that {_SMALLEST_GROUP} divides, not {config.width} and "
            f"{config.ff_width}: choose --precision f32"
        )
    return group


def quantised(tensor: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Numbers in int8 and a scale for each `group` of them: the largest becomes 127."""
    rows = tensor.reshape(-1, group)
    scales = rows.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127  # a group of zeros is no division by 0
    return torch.round(rows / scales).to(torch.int8), scales


def _header(config: ModelConfig, version: int, group: int) -> bytes:
    sizes = {name: getattr(config, name) for name in SIZES}
    if version == 0:
        sizes["vocab_size"] *= 1 if config.tied else -1
        return LEGACY.pack(*sizes.values())
    header = VERSIONED.pack(MAGIC, version, *sizes.values(), config.tied)
    return (header + (GROUP.pack(group) if group else b"")).ljust(HEADER_BYTES, b"\0")


def _angles(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines [context, head_dim / 2], in fp32 throughout, as llama2.c's model.py has them."""
    planes_R = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    angles_TR = torch.outer(torch.arange(config.context).float(), 1.0 / config.rope_theta**planes_R)
    return angles_TR.cos(), angles_TR.sin()

"""GGUF, which llama.cpp, Ollama and LM Studio read: fp32, fp16 or 8 bits (Q8_0), for llama, qwen3 and GPT-2 shapes.

Names and keys are those of llama.cpp's own converters (gguf-py/gguf/constants.py, tensor_mapping.py).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.files import atomic_file
from storylm.config.model import ModelConfig
from storylm.export.packages import package
from storylm.export.vocabulary import Kind, vocabulary
from storylm.model.tensor_names import Names, from_file, to_file
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

PRECISIONS = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
"""Ours and llama.cpp's names."""

_BLOCK = 32  # numbers that share a scale in Q8_0
_AROUND = {"embedding": "token_embd", "positions.table": "position_embd", "norm": "output_norm", "head": "output"}
_WITHIN = {
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.out": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "ff_norm": "ffn_norm",
    "ff.gate": "ffn_gate",
    "ff.up": "ffn_up",
    "ff.down": "ffn_down",
}
_STACKED = dict.fromkeys(("attention.q", "attention.k", "attention.v"), "attn_qkv")
NAMES = {
    "llama": Names("", "blk", _AROUND, _WITHIN, rope_layout="interleaved"),
    "qwen3": Names("", "blk", _AROUND, _WITHIN),
    "gpt2": Names("", "blk", _AROUND, {**_WITHIN, **_STACKED}),
}
"""The tensors of llama.cpp's architectures."""

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen3": "qwen3", "gpt2": "gpt2"}
"""Our family -> llama.cpp's architecture."""

_BIASES = ("attention_bias", "output_bias", "ff_bias")
_LLAMA: dict[str, Any] = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "activation": "silu",
    "gated": True,
    "qk_norm": False,
    **dict.fromkeys(_BIASES, False),
}
# What llama.cpp's code for an architecture does in one way only.
_FIXED: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen3": {**_LLAMA, "qk_norm": True},
    "gpt2": {
        "positions": "learned",
        "norm": "layernorm",
        "activation": "gelu_tanh",
        "gated": False,
        "qk_norm": False,
        **dict.fromkeys(_BIASES, True),
    },
}


def check_gguf(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """What is worth knowing about such a file.

    Raises:
        UsageError: llama.cpp would compute, or cut text, otherwise than we do.
    """
    if config.family not in ARCHITECTURES:
        raise UsageError(
            f"llama.cpp has no form for models of the family {config.family} (it has for {', '.join(ARCHITECTURES)}): "
            "export to hf or onnx"
        )
    architecture = ARCHITECTURES[config.family]
    differences = [
        f"model.{name}={getattr(config, name)}"
        for name, value in _FIXED[architecture].items()
        if getattr(config, name) != value
    ]
    if config.scale != config.head_dim**-0.5:
        differences.append(f"model.attention_scale={config.attention_scale}")
    if architecture == "gpt2" and (config.kv_heads != config.heads or config.heads * config.head_dim != config.width):
        differences.append(f"model.kv_heads={config.kv_heads}, model.head_dim={config.head_dim}")
    if any(window is not None and window < config.context for window in config.windows):
        differences.append(f"model.windows={list(config.windows)} below the context, which it would ignore")
    if differences:
        raise UsageError(
            f"llama.cpp's architecture {architecture} has no form for {'; '.join(differences)}: export to hf or onnx"
        )
    if tokenizer is None:
        raise UsageError("a GGUF file holds its tokenizer, and the model has none: save it with one, or export to hf")
    if vocabulary(tokenizer, config.vocab_size).loses_spaces:
        return ["llama.cpp keeps several spaces in a row, where this tokenizer makes one of them: prompts may differ"]
    return []


def write_gguf(
    model: Transformer, tokenizer: Tokenizer | None, path: str | Path, precision: str = "q8_0", name: str = "storylm"
) -> None:
    """Write the model with its tokenizer; matrices in the `precision`, vectors in fp32.

    Rows that 32 does not divide have no form in 8 bits and are written in fp16.

    Raises:
        UsageError: a model or a tokenizer that llama.cpp has no form for, or an unknown precision.
        SetupError: the package `gguf` is missing.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not known to GGUF: choose one of {', '.join(PRECISIONS)}")
    gguf = package("gguf")
    config = model.config
    check_gguf(config, tokenizer)
    assert tokenizer is not None
    architecture = ARCHITECTURES[config.family]
    weights = to_file(
        {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()},
        config,
        NAMES[architecture],
    )
    with atomic_file(Path(path)) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        writer.add_name(name)
        writer.add_file_type(getattr(gguf.LlamaFileType, PRECISIONS[precision]))
        _add_sizes(writer, config)
        _add_tokenizer(writer, tokenizer, config.vocab_size)
        for name, tensor in weights.items():
            _add_weight(writer, name, tensor.numpy(), precision)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf(path: str | Path, config: ModelConfig) -> Transformer:
    """The model of such a file in fp32, which is one of this `config`: to see what was written.

    Raises:
        CheckpointError: it holds other tensors.
        SetupError: the package `gguf` is missing.
    """
    gguf = package("gguf")
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    reader = gguf.GGUFReader(path)
    weights = {
        tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
        for tensor in reader.tensors
    }
    with torch.random.fork_rng(devices=[]):
        model = Transformer(config)
    model.load_state_dict(from_file(weights, model.state_dict(), config, NAMES[ARCHITECTURES[config.family]]))
    return model.eval()


def _add_weight(writer: Any, name: str, numbers: np.ndarray, precision: str) -> None:
    gguf = package("gguf")
    if numbers.ndim < 2 or precision == "f32":
        writer.add_tensor(name, numbers)
    elif precision == "f16" or numbers.shape[-1] % _BLOCK:
        writer.add_tensor(name, numbers.astype(np.float16))
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quantize(numbers, kind), raw_dtype=kind)


def _add_sizes(writer: Any, config: ModelConfig) -> None:
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ff_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.norm == "layernorm":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, rows: int) -> None:
    gguf = package("gguf")
    words = vocabulary(tokenizer, rows)
    kinds = {kind: getattr(gguf.TokenType, kind.name) for kind in Kind}
    writer.add_tokenizer_model("gpt2" if words.byte_level else "llama")
    writer.add_tokenizer_pre("gpt-2" if words.byte_level else "default")
    writer.add_token_list([token.text for token in words.tokens])
    writer.add_token_types([kinds[token.kind] for token in words.tokens])
    if words.byte_level:
        writer.add_token_merges([" ".join(pair) for pair in words.merges])
    else:
        writer.add_token_scores([token.score for token in words.tokens])
        writer.add_add_space_prefix(True)
        unknown = next((id for id, token in enumerate(words.tokens) if token.kind is Kind.UNKNOWN), None)
        if unknown is not None:
            writer.add_unk_token_id(unknown)
    writer.add_bos_token_id(tokenizer.start_id)
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_add_bos_token(True)  # a story begins after the start token
    writer.add_add_eos_token(False)


_MODELFILE = """FROM ./{file}
TEMPLATE \"\"\"{{{{ .Prompt }}}}\"\"\"
PARAMETER num_ctx {context}
PARAMETER temperature 0.8
PARAMETER stop "{end}"
"""


def modelfile(file: str, config: ModelConfig, tokenizer: Tokenizer) -> str:
    """What Ollama makes a model of, by `ollama create NAME -f Modelfile`: the prompt as it is, no chat."""
    return _MODELFILE.format(file=file, context=config.context, end=tokenizer.end)

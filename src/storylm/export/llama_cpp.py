"""What llama.cpp has a form for: its architectures, the names of their tensors, and what each does in one way only.

Names are those of llama.cpp's own converters (gguf-py/gguf/constants.py, tensor_mapping.py).
"""

from typing import Any

from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.export.vocabulary import vocabulary
from storylm.model.tensor_names import Names
from storylm.text.tokenizer import Tokenizer

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

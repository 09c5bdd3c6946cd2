"""The native classes of transformers, as data: which key of config.json says what."""

from dataclasses import dataclass, field
from typing import Any

from storylm.model.family_windows import WINDOWS, WindowStyle


@dataclass(frozen=True)
class TransformersClass:
    """How one class of transformers says what a `ModelConfig` says.

    keys: our setting -> the key with the same meaning. Two settings may share a key: then they must agree.
    absent: what the class takes a missing key to be, where that is not our family's default.
    dropouts: keys that all hold our one rate.
    """

    architecture: str
    keys: dict[str, str]
    dropouts: tuple[str, ...] = ("attention_dropout",)
    absent: dict[str, Any] = field(default_factory=dict)
    windows: WindowStyle = WINDOWS["none"]
    heads_divide_width: bool = False  # refuses a head_dim for which heads do not divide the width


_ROTARY = {
    "vocab_size": "vocab_size",
    "context": "max_position_embeddings",
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ff_width": "intermediate_size",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
    "activation": "hidden_act",
    "tied": "tie_word_embeddings",
    "init_std": "initializer_range",
}
_BIASES = {"attention_bias": "attention_bias", "output_bias": "attention_bias"}

CLASSES: dict[str, TransformersClass] = {
    "gpt_neo": TransformersClass(
        "GPTNeoForCausalLM",
        {
            "vocab_size": "vocab_size",
            "context": "max_position_embeddings",
            "layers": "num_layers",
            "width": "hidden_size",
            "heads": "num_heads",
            "ff_width": "intermediate_size",
            "norm_eps": "layer_norm_epsilon",
            "activation": "activation_function",
            "tied": "tie_word_embeddings",
            "init_std": "initializer_range",
        },
        dropouts=("resid_dropout", "embed_dropout", "attention_dropout"),
        windows=WINDOWS["attention_types"],
    ),
    "gpt2": TransformersClass(
        "GPT2LMHeadModel",
        {
            "vocab_size": "vocab_size",
            "context": "n_positions",
            "layers": "n_layer",
            "width": "n_embd",
            "heads": "n_head",
            "ff_width": "n_inner",
            "norm_eps": "layer_norm_epsilon",
            "activation": "activation_function",
            "tied": "tie_word_embeddings",
            "init_std": "initializer_range",
        },
        dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        absent={"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    ),
    "llama": TransformersClass(
        "LlamaForCausalLM", {**_ROTARY, **_BIASES, "ff_bias": "mlp_bias"}, heads_divide_width=True
    ),
    "mistral": TransformersClass(
        "MistralForCausalLM", _ROTARY, absent={"num_key_value_heads": 8}, windows=WINDOWS["sliding_window"]
    ),
    "qwen3": TransformersClass(
        "Qwen3ForCausalLM",
        {**_ROTARY, **_BIASES},
        absent={"num_key_value_heads": 32, "head_dim": 128},
        windows=WINDOWS["layer_types"],
    ),
}
REQUIRED = ("vocab_size", "context", "layers", "width", "heads")  # classes have defaults; a file without is damaged

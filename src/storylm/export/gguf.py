"""GGUF, which llama.cpp, Ollama and LM Studio read: fp32, fp16 or 8 bits (Q8_0), for llama, qwen3 and GPT-2 shapes.

What it can hold is said in `storylm.export.llama_cpp`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.files import atomic_file
from storylm.config.model import ModelConfig
from storylm.export.llama_cpp import ARCHITECTURES, NAMES, check_gguf
from storylm.export.packages import package
from storylm.export.vocabulary import Kind, vocabulary
from storylm.model.tensor_names import from_file, to_file
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

PRECISIONS = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
"""Ours and llama.cpp's names."""

_BLOCK = 32  # numbers that share a scale in Q8_0


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

"""Small models of every family for comparisons: no two widths alike, so that a transposition cannot pass."""

import torch

from storylm.config.model import ModelConfig
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

LENGTH = 33  # longer than every window below
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}
ENLARGED = 8.0  # at default size a wrong RoPE base or attention scale hides in the noise

ZOO: dict[str, ModelConfig] = {
    "gpt_neo": ModelConfig(
        family="gpt_neo", vocab_size=97, context=40, layers=4, width=24, heads=3, ff_width=50, windows=(None, 5)
    ),
    # Layers that are no repeated pattern, another activation, a head of its own.
    "gpt_neo-odd": ModelConfig(
        family="gpt_neo",
        vocab_size=97,
        context=40,
        layers=3,
        width=24,
        heads=3,
        ff_width=50,
        windows=(6, 6, None),
        activation="gelu",
        tied=False,
        dropout=0.1,
    ),
    "gpt2": ModelConfig(family="gpt2", vocab_size=97, context=40, layers=3, width=24, heads=3, ff_width=50),
    "gpt2-odd": ModelConfig(
        family="gpt2",
        vocab_size=97,
        context=40,
        layers=2,
        width=24,
        heads=3,
        activation="relu",
        norm_eps=1e-3,
        tied=False,
        dropout=0.2,
        init_std=0.05,
        init_outputs="scaled",
    ),
    "llama": ModelConfig(
        family="llama", vocab_size=101, context=40, layers=3, width=48, heads=6, kv_heads=2, ff_width=44
    ),
    "llama-odd": ModelConfig(
        family="llama",
        vocab_size=101,
        context=40,
        layers=2,
        width=48,
        heads=6,
        kv_heads=3,
        head_dim=10,
        ff_width=44,
        rope_theta=500.0,
        rope_layout="interleaved",
        norm_eps=1e-3,
        activation="gelu_tanh",
        attention_bias=True,
        output_bias=True,
        ff_bias=True,
        tied=True,
        dropout=0.1,
    ),
    "mistral": ModelConfig(
        family="mistral",
        vocab_size=103,
        context=40,
        layers=2,
        width=40,
        heads=4,
        kv_heads=2,
        head_dim=14,
        ff_width=44,
        windows=(7,),
        activation="gelu_tanh",
        tied=True,
    ),
    "mistral-odd": ModelConfig(
        family="mistral", vocab_size=103, context=40, layers=2, width=40, heads=5, ff_width=44, rope_theta=99_000.0
    ),
    "qwen3": ModelConfig(
        family="qwen3",
        vocab_size=107,
        context=40,
        layers=3,
        width=36,
        heads=6,
        kv_heads=2,
        head_dim=8,
        ff_width=44,
        tied=True,
    ),
    # Windows in some layers; the heads are wider than the stream and do not divide it.
    "qwen3-odd": ModelConfig(
        family="qwen3",
        vocab_size=107,
        context=40,
        layers=5,
        width=34,
        heads=4,
        kv_heads=1,
        head_dim=12,
        ff_width=44,
        windows=(None, 6, 6),
        rope_theta=1234.5,
        rope_layout="interleaved",
        attention_bias=True,
        output_bias=True,
    ),
}


def random_model(config: ModelConfig, scale: float = 1.0, seed: int = 0) -> Transformer:
    """Every parameter drawn, biases and norms too: what starts as 0 or 1 would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            spread = 0.1 if parameter.ndim == 1 else 0.02 * scale
            parameter.normal_(centre, spread, generator=generator)
    return model


def tokenizer_model(family: str, tokenizer: Tokenizer) -> Transformer:
    """The smallest model to stand beside a tokenizer."""
    return random_model(
        ModelConfig(family=family, vocab_size=tokenizer.vocab_size, width=8, layers=2, heads=2, context=LENGTH)
    )


def random_tokens(config: ModelConfig, rows: int = 2) -> torch.Tensor:
    return torch.randint(config.vocab_size, (rows, LENGTH), generator=torch.Generator().manual_seed(7))


def same_weights(first: Transformer, second: Transformer) -> bool:
    """Bit for bit, under the same names."""
    ours, others = first.state_dict(), second.state_dict()
    return ours.keys() == others.keys() and all(tensor.equal(others[name]) for name, tensor in ours.items())

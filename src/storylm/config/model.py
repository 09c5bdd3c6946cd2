"""`ModelConfig`: what a decoder-only transformer can be.

Every published model is one `Transformer` described by this data. A family is a row of `FAMILIES`: the
defaults that make the description expressible as a native class of `transformers`; nothing else in the
package asks for a family's name except the code that reads and writes its files.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from storylm.config.base import Settings

Family = Literal["gpt_neo", "gpt2", "llama", "mistral", "qwen3"]

# Defaults by family; what a preset or a config.json says replaces them.
_LLAMA: dict[str, Any] = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "norm_eps": 1e-6,
    "activation": "silu",
    "gated": True,
    "attention_bias": False,
    "output_bias": False,
    "ff_bias": False,
    "tied": False,
}
FAMILIES: dict[str, dict[str, Any]] = {
    # Local attention in every second layer, biases everywhere but in q, k, v. GPT-Neo was trained without
    # 1/sqrt(head_dim); scaling here would change its stories.
    "gpt_neo": {
        "windows": (None, 256),
        "attention_bias": False,
        "attention_scale": 1.0,
        "activation": "gelu_tanh",
    },
    "gpt2": {"activation": "gelu_tanh"},
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen3": {**_LLAMA, "qk_norm": True},
}


class ModelConfig(Settings):
    """The architecture of a decoder-only transformer. Widths are in features, lengths in tokens.

    >>> ModelConfig(family="llama", vocab_size=512, context=512, layers=5, width=64, heads=8, kv_heads=4,
    ...             ff_width=172, tied=True).head_dim
    8
    """

    family: Family = Field(default="qwen3", description="the transformers class this model is saved as")
    vocab_size: int = Field(default=4096, ge=2, description="rows of the embedding table")
    context: int = Field(default=512, ge=1, description="longest sequence, in tokens")
    layers: int = Field(default=4, ge=1, description="transformer blocks")
    width: int = Field(default=256, ge=1, description="features of the residual stream")
    heads: int = Field(default=4, ge=1, description="query heads")
    kv_heads: int = Field(
        default=0, ge=0, description="key/value heads, each shared by heads/kv_heads query heads (0: heads)"
    )
    head_dim: int = Field(default=0, ge=0, description="features of one head (0: width/heads)")
    ff_width: int = Field(default=0, ge=0, description="features inside the feed-forward layer (0: 4 x width)")

    positions: Literal["learned", "rotary", "none"] = Field(
        default="learned", description="how a token knows its place"
    )
    rope_theta: float = Field(default=10_000.0, gt=0, description="base of the rotary frequencies")
    rope_layout: Literal["half", "interleaved"] = Field(
        default="half",
        description="which features rotate together: i and i+d/2 (transformers) or 2i and 2i+1 (llama2.c)",
    )
    norm: Literal["layernorm", "rmsnorm"] = Field(default="layernorm", description="normalisation before each part")
    norm_eps: float = Field(default=1e-5, gt=0, description="added to the variance")
    activation: Literal["gelu", "gelu_tanh", "silu", "relu", "relu2"] = Field(
        default="gelu_tanh", description="nonlinearity"
    )
    gated: bool = Field(default=False, description="feed-forward is activation(gate) * up, as in SwiGLU")
    windows: tuple[int | None, ...] = Field(
        default=(None,),
        min_length=1,
        description="attention window of each layer, repeated; null: all earlier tokens",
    )
    qk_norm: bool = Field(default=False, description="RMSNorm over each query and key head before positions")
    attention_bias: bool = Field(default=True, description="bias in the query, key and value projections")
    output_bias: bool = Field(default=True, description="bias in the attention's output projection")
    ff_bias: bool = Field(default=True, description="bias in the feed-forward projections")
    attention_scale: float | None = Field(
        default=None, gt=0, description="factor on query-key products (null: 1/sqrt(head_dim))"
    )
    tied: bool = Field(default=True, description="the output head is the embedding table")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="on embeddings, attention weights and both residual branches"
    )
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of initial weights")
    init_outputs: Literal["same", "scaled", "zero"] = Field(
        default="same",
        description="initial weights of projections into the residual stream: like the rest, / sqrt(2 layers), or 0",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_family(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        family = values.get("family", cls.model_fields["family"].default)
        return {**FAMILIES.get(family, {}), **values}

    @model_validator(mode="after")
    def _derive_and_check(self) -> "ModelConfig":
        derived = {
            "kv_heads": self.kv_heads or self.heads,
            "head_dim": self.head_dim or self.width // self.heads,
            "ff_width": self.ff_width or 4 * self.width,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # the object is frozen from here on
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.head_dim == 0 or ("head_dim" not in self.model_fields_set and self.width % self.heads):
            raise ValueError(f"width={self.width} does not divide into heads={self.heads}: set head_dim")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if any(window is not None and window < 1 for window in self.windows):
            raise ValueError(f"windows={list(self.windows)}: a window is at least 1 token, or null")
        return self

    def window(self, layer: int) -> int | None:
        """The attention window of `layer`: a query at position i sees keys i-window+1 .. i; None: all up to i."""
        return self.windows[layer % len(self.windows)]

    @property
    def scale(self) -> float:
        """The factor on query-key products."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

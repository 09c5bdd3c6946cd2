"""How many parameters, how much arithmetic and how much memory, from the description alone."""

from storylm.config.model import ModelConfig

_NORM_ROWS = {"layernorm": 2, "rmsnorm": 1}  # gain and bias, or gain alone
_STATE_BYTES = {"adamw": 8, "muon": 4}  # fp32 moments of one weight: two, or one
_COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_LOSS_CHUNK = 2**24  # logits that exist at once (model.loss)


def parameters(config: ModelConfig) -> int:
    """The exact number of trained weights, tied ones counted once.

    >>> parameters(ModelConfig(family="llama", vocab_size=512, context=512, layers=5, width=64, heads=8,
    ...                        kv_heads=4, ff_width=172, tied=True))
    260032
    """
    width, query_width, key_width = config.width, config.heads * config.head_dim, config.kv_heads * config.head_dim
    biases = (
        config.attention_bias * (query_width + 2 * key_width)
        + config.output_bias * width
        + config.ff_bias * ((1 + config.gated) * config.ff_width + width)
    )
    norm = _NORM_ROWS[config.norm] * width
    qk_norms = config.qk_norm * 2 * config.head_dim
    block = _block_matrices(config) + biases + 2 * norm + qk_norms
    tables = config.vocab_size * width * (1 if config.tied else 2)
    positions = config.context * width if config.positions == "learned" else 0
    return config.layers * block + norm + tables + positions


def flops_per_token(config: ModelConfig, context: int | None = None) -> int:
    """Floating-point operations to learn from one token, forward and backward, in rows of `context` tokens.

    6 for each weight of a matrix multiplication (the head's too, the embedding's look-up not; Kaplan et al.
    2020), and 12 for each feature of each key that a query sees, its window respected: the mean over a row.
    Norms, activations and rotations are left out.
    """
    context = context or config.context
    query_width = config.heads * config.head_dim
    seen = sum(_mean_keys(context, config.window(layer)) for layer in range(config.layers))
    weights = config.layers * _block_matrices(config) + config.vocab_size * config.width
    return round(6 * weights + 12 * query_width * seen)


def training_bytes(config: ModelConfig, batch: int, context: int, precision: str, optimizer: str) -> int:
    """Memory to train on `batch` rows of `context` tokens: an estimate, without Python and torch themselves.

    Weights and gradients in fp32, the optimizer's moments (AdamW two, Muon one for hidden matrices), a
    copy of the matrices in `precision` where it is not fp32; what a forward pass keeps for the backward
    pass; and the loss's one chunk of logits. `precision` is "fp32", "bf16" or "fp16", and "auto" counts as
    bf16. Uncompiled; compiling keeps about a third less of each layer.
    """
    compute = _COMPUTE_BYTES.get(precision, 2)
    count = parameters(config)
    hidden = config.layers * _block_matrices(config)
    state = _STATE_BYTES[optimizer] * hidden + _STATE_BYTES["adamw"] * (count - hidden)
    copies = 0 if compute == 4 else compute * (hidden + config.vocab_size * config.width)
    kept = batch * context * (config.layers * _kept_per_token(config, compute) + 3 * 4 * config.width)
    rows = min(batch * context, max(256, _LOSS_CHUNK // config.vocab_size))
    logits = rows * config.vocab_size * (2 * compute + 3 * 4)
    return 4 * count + 4 * count + state + copies + kept + logits


def _block_matrices(config: ModelConfig) -> int:
    """The weights of one block that are multiplied with every token."""
    attention = 2 * (config.heads + config.kv_heads) * config.head_dim * config.width
    return attention + (2 + config.gated) * config.ff_width * config.width


def _mean_keys(context: int, window: int | None) -> float:
    """How many keys a query sees, over the positions of a row: 1, 2, ... up to the window."""
    window = min(context, window or context)
    return (window * (window + 1) / 2 + (context - window) * window) / context

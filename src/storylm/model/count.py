"""How many parameters, how much arithmetic and how much memory, from the description alone."""

from storylm.config.model import ModelConfig

_NORM_ROWS = {"layernorm": 2, "rmsnorm": 1}  # gain and bias, or gain alone
_COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
PROCESS_BYTES = 400_000_000  # of Python, torch and what else a run imports, before there is a model
LOSS_CHUNK = {"cpu": 3 * 2**23, "cuda": 2**27}  # how many logits exist at once in model.loss


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


def activation_bytes(config: ModelConfig, batch: int, context: int, precision: str, device: str = "cpu") -> int:
    """What a step on `batch` rows of `context` tokens takes at most, beside weights, gradients and optimizer.

    An estimate; on a CPU with the kernels of `model.native`, without which it is more. The sum of

    - a copy of the matrices in `precision` ("fp32", "bf16" or "fp16"), where that is not fp32;
    - what each layer keeps for the backward pass (`_kept_per_token`), uncompiled;
    - one chunk of logits, since all of them never exist at once (`model.loss`), and the head's gradient, twice.
    """
    compute = _COMPUTE_BYTES[precision]
    matrices = config.layers * _block_matrices(config) + config.vocab_size * config.width
    copies = 0 if compute == 4 else compute * matrices
    layer = _kept_per_token(config, compute, kernels=device == "cpu")
    # One layer more for the gradients inside the one that is at work; 12: around the last norm, in fp32.
    kept = batch * context * ((config.layers + 1) * layer + 12 * config.width)
    chunk = LOSS_CHUNK.get(device, LOSS_CHUNK["cpu"])
    rows = min(batch * context, max(256, chunk // config.vocab_size))
    logits = rows * config.vocab_size * compute * (1 if device == "cpu" else 2)  # their gradient in place, or beside
    head = (4 + compute) * config.vocab_size * config.width
    return copies + kept + logits + head


def _kept_per_token(config: ModelConfig, compute: int, kernels: bool) -> int:
    """Bytes that a layer keeps of a token for the backward pass, as autograd was seen to; with our `kernels` fewer."""
    width, query_width, key_width = config.width, config.heads * config.head_dim, config.kv_heads * config.head_dim
    rms = config.norm == "rmsnorm"
    kept = 8 * width  # the stream at both norms, fp32
    # What the projections read: shared by those of one norm, or under autocast a copy for each of them.
    kept += 2 * compute * width if compute == 4 or (kernels and rms) else compute * width * (4 + config.gated)
    kept += compute * (query_width + 2 * key_width)
    # Attention's result; laid out anew where queries were.
    kept += compute * query_width * (2 if config.positions == "rotary" and not kernels else 1)
    kept += compute * config.ff_width * ((3 if kernels and config.activation == "silu" else 4) if config.gated else 2)
    kept += 8 * width if rms and not kernels else 0
    if config.qk_norm:  # queries and keys before it
        kept += (compute if kernels else 8) * (query_width + key_width)
    # `model.native` makes the same noise again where it is needed.
    return kept + (2 * width if config.dropout and not kernels else 0)


def _block_matrices(config: ModelConfig) -> int:
    """The weights of one block that are multiplied with every token."""
    attention = 2 * (config.heads + config.kv_heads) * config.head_dim * config.width
    return attention + (2 + config.gated) * config.ff_width * config.width


def _mean_keys(context: int, window: int | None) -> float:
    """How many keys a query sees, over the positions of a row: 1, 2, ... up to the window."""
    window = min(context, window or context)
    return (window * (window + 1) / 2 + (context - window) * window) / context

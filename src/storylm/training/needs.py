"""What a run needs, from its settings alone. In bytes."""

import torch

from storylm.config.schema import RunConfig
from storylm.model.count import activation_bytes, parameters
from storylm.model.transformer import Transformer
from storylm.optim.memory import state_bytes


def checkpoint_bytes(config: RunConfig) -> int:
    """What a checkpoint holds: the weights in fp32, the optimizer's state and the average of the weights."""
    with torch.device("meta"):
        state = state_bytes(Transformer(config.model), config.optim)
    return 4 * parameters(config.model) + state


def training_bytes(config: RunConfig, rows: int, precision: str, device: torch.device) -> int:
    """Peak memory of training on `rows` rows at once, without what Python and torch themselves take.

    An estimate, for where nothing can be measured (`training.probe` does): what a checkpoint holds, gradients in fp32,
    and what a step takes (`model.count.activation_bytes`).
    """
    gradients = 4 * parameters(config.model)
    return (
        checkpoint_bytes(config)
        + gradients
        + activation_bytes(config.model, rows, config.row_length, precision, device.type)
    )

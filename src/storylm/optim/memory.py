"""How much memory an optimizer's state takes, from the shapes of the weights alone."""

from torch import nn

from storylm.config.schema import OptimConfig
from storylm.optim.eight_bit import block_size
from storylm.optim.groups import split_parameters


def state_bytes(model: nn.Module, config: OptimConfig) -> int:
    """Bytes that `build_optimizers` and the average of the weights keep beside weights and gradients.

    A checkpoint holds as many, besides the weights. `model` may be made of "meta" tensors, without memory.

    >>> with torch.device("meta"):                                                  # doctest: +SKIP
    ...     state_bytes(Transformer(config.model), config.optim)
    """
    total = 0
    for kind, parameters in split_parameters(model).items():
        for parameter in parameters:
            each = 8.0  # two moments in fp32
            if config.optimizer == "muon" and kind == "hidden":
                each = 4.0
            elif config.optimizer == "adamw8bit" and (block := block_size(parameter)) is not None:
                each = 2 * (1 + 4 / block)
            total += round(parameter.numel() * (each + (4 if config.ema is not None else 0)))
    return total

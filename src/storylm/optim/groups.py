"""Which weights are treated how: by the shape and the place of each, never by its model's name."""

from torch import nn

from storylm.config.schema import OptimConfig


def split_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every trained weight in exactly one of three kinds.

    - "hidden": matrices inside the blocks, which Muon may take;
    - "tables": embedding, positions and head;
    - "vectors": biases and norms, never decayed (decay would pull a norm's gain to 0 for no benefit).
    """
    kinds: dict[str, list[nn.Parameter]] = {"hidden": [], "tables": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kind = "vectors" if parameter.ndim < 2 else "hidden" if name.startswith("blocks.") else "tables"
        kinds[kind].append(parameter)
    return kinds


def parameter_groups(model: nn.Module, config: OptimConfig) -> dict[str, dict]:
    """One torch parameter group a kind, with its peak learning rate in `peak_lr`."""
    rates = {"hidden": config.lr, "tables": config.embedding_lr or config.lr, "vectors": config.lr}
    return {
        kind: {
            "params": parameters,
            "peak_lr": rates[kind],
            "lr": rates[kind],
            "weight_decay": 0.0 if kind == "vectors" else config.weight_decay,
        }
        for kind, parameters in split_parameters(model).items()
        if parameters
    }

"""Which weights are treated how: by the shape and the place of each, never by its model's name."""

from torch import nn

from storylm.config.schema import OptimConfig

# The settings that a kind of weight takes its peak rate and its decay from: the first that is set.
SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hidden": (("lr",), ("weight_decay",)),
    "embeddings": (("embedding_lr", "lr"), ("embedding_decay", "weight_decay")),
    "head": (("head_lr", "embedding_lr", "lr"), ("weight_decay",)),
    "vectors": (("lr",), ()),  # never decayed: it would pull a norm's gain to 0 for no benefit
}


def split_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every trained weight in exactly one of four kinds.

    - "hidden": matrices inside the blocks, which Muon may take;
    - "embeddings": tables of tokens and of positions;
    - "head": the matrix of an output head that is not the embedding table;
    - "vectors": biases and norms.
    """
    kinds: dict[str, list[nn.Parameter]] = {kind: [] for kind in SETTINGS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kinds[_kind(name, parameter)].append(parameter)
    return kinds


def parameter_groups(model: nn.Module, config: OptimConfig) -> dict[str, dict]:
    """One torch parameter group a kind, with its peak learning rate in `peak_lr`."""
    groups = {}
    for kind, parameters in split_parameters(model).items():
        rates, decays = SETTINGS[kind]
        rate = _first(config, rates)
        if parameters:
            decay = _first(config, decays)
            groups[kind] = {"params": parameters, "peak_lr": rate, "lr": rate, "weight_decay": decay}
    return groups


def _kind(name: str, parameter: nn.Parameter) -> str:
    if parameter.ndim < 2:
        return "vectors"
    place = name.partition(".")[0]
    return {"blocks": "hidden", "head": "head"}.get(place, "embeddings")


def _first(config: OptimConfig, settings: tuple[str, ...]) -> float:
    return next((value for name in settings if (value := getattr(config, name)) is not None), 0.0)

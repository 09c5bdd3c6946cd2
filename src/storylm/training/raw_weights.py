"""Where a run averages its weights, a checkpoint has the average as its model, and the weights themselves beside it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from storylm.config.errors import CheckpointError
from storylm.optim.average import WeightAverage
from storylm.training.parallel import gathered, sharded_like

WEIGHTS, UPDATES = "weights/", "average/updates"


def raw_tensors(model: nn.Module, average: WeightAverage | None) -> dict[str, Tensor]:
    """What a checkpoint needs beside the model it shows to go on: nothing where there is no `average`.

    All ranks have to ask for it together.
    """
    if average is None:
        return {}
    weights = {WEIGHTS + name: gathered(parameter.detach()) for name, parameter in model.named_parameters()}
    return weights | {UPDATES: average.updates}


@torch.no_grad()
def restore_raw(model: nn.Module, average: WeightAverage | None, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put back what `raw_tensors` took into `model`, which holds the average that `average` begins as.

    Returns the other tensors. Where the run has been told to average from here on, or no longer, the weights go on
    all the same. Raises `CheckpointError` where some are lacking or of other shapes.
    """
    raw = {name: tensor for name, tensor in tensors.items() if name.startswith((WEIGHTS, UPDATES))}
    if raw:
        parameters = {WEIGHTS + name: parameter for name, parameter in model.named_parameters()}
        shapes = {name: parameter.shape for name, parameter in parameters.items()} | {UPDATES: torch.Size([])}
        wrong = sorted(
            name for name in shapes.keys() | raw.keys() if name not in raw or raw[name].shape != shapes.get(name)
        )
        if wrong:
            raise CheckpointError(f"the checkpoint lacks {wrong[0]!r}, or it is of another model: it is damaged")
        for name, parameter in parameters.items():
            parameter.copy_(sharded_like(raw[name], parameter))
        if average is not None:
            average.updates.copy_(raw[UPDATES])
    return {name: tensor for name, tensor in tensors.items() if name not in raw}

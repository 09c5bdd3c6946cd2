"""Optimizers by name. Each builder returns a list, since most leave some weights to a second optimizer."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from storylm.config.schema import OptimConfig
from storylm.optim.eight_bit import AdamW8bit, block_size
from storylm.optim.groups import parameter_groups
from storylm.optim.muon import Muon


def build_optimizers(model: nn.Module, config: OptimConfig) -> list[Optimizer]:
    """The optimizers that together update every weight of `model`, each once.

    Set the rates of a step with `set_learning_rates`.
    """
    return BUILDERS[config.optimizer](model, config)


def set_learning_rates(optimizers: list[Optimizer], factor: float) -> None:
    """Give each parameter group `factor` times its peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def _adamw(model: nn.Module, config: OptimConfig) -> list[Optimizer]:
    return [_adamw_over(list(parameter_groups(model, config).values()), config)]


def _adamw8bit(model: nn.Module, config: OptimConfig) -> list[Optimizer]:
    """8-bit AdamW for what it suits; vectors and small matrices keep their moments in fp32."""
    large: list[dict] = []
    small: list[dict] = []
    for group in parameter_groups(model, config).values():
        for groups, wanted in ((large, True), (small, False)):
            parameters = [each for each in group["params"] if (block_size(each) is not None) == wanted]
            if parameters:
                groups.append(group | {"params": parameters})
    optimizers: list[Optimizer] = [AdamW8bit(large, config.lr, config.betas, config.eps)] if large else []
    return [*optimizers, _adamw_over(small, config)] if small else optimizers


def _muon(model: nn.Module, config: OptimConfig) -> list[Optimizer]:
    """Muon (Jordan 2024): momentum made orthogonal, for hidden matrices; AdamW for all else."""
    groups = parameter_groups(model, config)
    hidden = groups.pop("hidden") | {
        "peak_lr": config.muon_lr,
        "lr": config.muon_lr,
        "weight_decay": config.muon_decay,
    }
    muon = Muon([hidden], lr=config.muon_lr, momentum=config.muon_momentum, nesterov=True)
    return [muon, _adamw_over(list(groups.values()), config)]


def _adamw_over(groups: list[dict], config: OptimConfig) -> Optimizer:
    # fused: one pass over each tensor; the CPU has it too.
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


BUILDERS: dict[str, Callable[[nn.Module, OptimConfig], list[Optimizer]]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "muon": _muon,
}

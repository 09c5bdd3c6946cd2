"""A moving average of the weights, which is often better than the weights: it lies in the middle of their jitter."""

from collections.abc import Sequence

import torch
from torch import Tensor

from storylm.optim.update import local


class WeightAverage:
    """Exponential moving average (EMA; Polyak & Juditsky 1992) of `parameters`, which it begins as.

    After update number t (from 0), average = d average + (1 - d) weights, d = min(decay, (1+t) / (10+t)): the first
    weights, which are random, are forgotten soon. `weights` are the averages, in fp32 and in the order of `parameters`;
    `updates` counts, 0-dim and on the device. They are all there is to save.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float):
        self.parameters, self.decay = list(parameters), decay
        self.weights = [parameter.detach().float().clone() for parameter in self.parameters]
        self.updates = torch.zeros((), device=self.weights[0].device)

    @torch.no_grad()
    def update(self, applied: Tensor) -> None:
        """Take in the weights after a step; nothing happens where the 0-dim `applied` is false (`step_where`)."""
        decay = ((1 + self.updates) / (10 + self.updates)).clamp(max=self.decay)
        share = (1 - decay) * applied
        averages = [local(weight) for weight in self.weights]
        steps = torch._foreach_sub([local(parameter) for parameter in self.parameters], averages)  # type: ignore[attr-defined]
        torch._foreach_mul_(steps, share)  # type: ignore[attr-defined]
        torch._foreach_add_(averages, steps)  # type: ignore[attr-defined]
        self.updates += applied

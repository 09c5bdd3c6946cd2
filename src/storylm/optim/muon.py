"""Muon for many small matrices: those of one shape are made orthogonal together, in a few large products."""

# M matrices of one shape, R rows, C columns (R <= C)

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from storylm.optim.update import local


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan 2024), of which it has state, settings and results, to bf16's rounding.

    A small model spends a seventh of a step on the iterations of some dozen matrices of 128 x 128, one by one. Shards
    of matrices (FSDP2) are left to torch, which gathers them.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the matrices that have a gradient; returns what `closure` does."""
        every = [parameter for group in self.param_groups for parameter in group["params"]]
        if any(local(parameter) is not parameter for parameter in every):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        matrices: list[Tensor] = []
        gradients: list[Tensor] = []
        momenta: list[Tensor] = []
        self._init_group(group, matrices, gradients, momenta)
        if not matrices:
            return
        assert group["adjust_lr_fn"] in (None, "original"), "other adjustments are not built"
        momentum = group["momentum"]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)  # pyright: ignore
        ahead = momenta
        if group["nesterov"]:
            ahead = torch._foreach_lerp(gradients, momenta, momentum)  # pyright: ignore
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, matrix in enumerate(matrices):
            by_shape[tuple(sorted(matrix.shape))].append(number)
        for numbers in by_shape.values():
            upright = [matrices[number].shape[0] > matrices[number].shape[1] for number in numbers]
            wide_MRC = torch.stack(
                [(ahead[n].mT if tall else ahead[n]).bfloat16() for n, tall in zip(numbers, upright, strict=True)]
            )
            made_MRC = orthogonal(wide_MRC, group["ns_coefficients"], group["ns_steps"], group["eps"])
            for number, tall, made_RC in zip(numbers, upright, made_MRC, strict=True):
                matrix = matrices[number]
                rate = group["lr"] * math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))  # torch's "original"
                matrix.add_(made_RC.mT if tall else made_RC, alpha=-rate)


def orthogonal(x_MRC: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Each matrix with its singular values brought near 1 by Newton-Schulz iterations (Jordan 2024); bf16 is enough."""
    a, b, c = coefficients
    x_MRC = x_MRC / x_MRC.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram_MRR = x_MRC @ x_MRC.mT
        x_MRC = torch.baddbmm(x_MRC, torch.baddbmm(gram_MRR, gram_MRR, gram_MRR, beta=b, alpha=c), x_MRC, beta=a)
    return x_MRC

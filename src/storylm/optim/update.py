"""Clipping gradients and applying an update only where it is finite, without waiting for the device.

Reading a number from a GPU (`.item()`, `if tensor`) makes the program wait until all work given to the GPU is
done. Nothing here does so: what depends on a number on the device is decided on the device.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float | None) -> Tensor:
    """Scale gradients down, in place, so that their L2 norm over all `parameters` is at most `largest`.

    Returns the norm before clipping, 0-dim and on the device; `largest=None` only measures. Gradients whose
    norm is not finite are left as they are. Of parameters sharded over ranks (FSDP2) it is the norm of the
    whole gradients, the same on every rank.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # type: ignore[attr-defined]
    if largest is not None and gradients:
        # As torch.nn.utils.clip_grad_norm_ computes it, so that the figures are the same.
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)
        factor = torch.where(torch.isfinite(norm), factor, 1.0)
        torch._foreach_mul_([local(gradient) for gradient in gradients], factor)  # type: ignore[attr-defined]
    return norm


def step_where(optimizers: Sequence[Optimizer], finite: Tensor) -> None:
    """Let `optimizers` update their weights where the 0-dim `finite` is true; else weights and state stay as they are.

    On the CPU this is a plain `if`. On a GPU the update is computed and thrown away where it is not wanted, which
    happens a few times in a run if at all.
    """
    if finite.device.type == "cpu":
        if finite:
            for optimizer in optimizers:
                optimizer.step()
        return
    for optimizer in optimizers:
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            _step_masked(optimizer, finite)
        else:
            _step_or_undo(optimizer, finite)


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor sharded over ranks, in the same memory; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[attr-defined]


def _step_masked(optimizer: Optimizer, finite: Tensor) -> None:
    """Fused optimizers have a switch for it, made for `torch.amp.GradScaler`: with it the kernel does nothing."""
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


@torch.no_grad()
def _step_or_undo(optimizer: Optimizer, finite: Tensor) -> None:
    """Update, then put back what was there before where it should not have been done."""
    before = {name: tensor.clone() for name, tensor in _touched(optimizer).items()}
    optimizer.step()
    for name, tensor in _touched(optimizer).items():
        # The first update makes the state, and makes it of zeros.
        old = before[name] if name in before else torch.zeros_like(tensor)
        torch.where(finite, tensor, old, out=tensor)


def _touched(optimizer: Optimizer) -> dict[tuple[Tensor, str], Tensor]:
    """What an update writes into: weights (named "") and their state."""
    touched: dict[tuple[Tensor, str], Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            touched[parameter, ""] = local(parameter)
            for key, value in optimizer.state.get(parameter, {}).items():
                touched[parameter, key] = local(value)
    return touched

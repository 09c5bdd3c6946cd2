"""Next-token loss without the logits of a whole batch.

With a 50k vocabulary the logits of 4,096 tokens are 0.8 GB in fp32, and writing and reading them is most of
a small model's training time. Here rows are taken in chunks: project, softmax, and at once the gradient,
so that one chunk's logits are all that ever exists. The idea is that of Liger Kernel's fused linear
cross-entropy (Hsu et al. 2024).
"""

# B batch, T tokens, N = B*T rows, C rows of one chunk, V vocabulary, D width

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
_CHUNK_ELEMENTS = 2**24  # logits of one chunk: 32 MB in bf16
_MIN_ROWS = 256


def next_token_loss(
    hidden_BTD: Tensor, head_weight_VD: Tensor, targets_BT: Tensor, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """The nats of all targets together and how many there are; `IGNORED` (-100) targets count for nothing.

    Both are scalars on the device: sums, so that micro-batches and ranks add up before the one division.
    """
    targets_N = targets_BT.flatten()
    nats = _NextTokenLoss.apply(hidden_BTD.flatten(0, -2), head_weight_VD, targets_N, compiled)
    return nats, (targets_N != IGNORED).sum()


@torch.no_grad()
def token_nats(hidden_BTD: Tensor, head_weight_VD: Tensor, targets_BT: Tensor) -> Tensor:
    """The nats of each target, [B, T] in fp32; 0 where ignored. No gradient."""
    hidden_ND, targets_N = hidden_BTD.flatten(0, -2), targets_BT.flatten()
    weight_VD = head_weight_VD.to(_compute_dtype(hidden_ND))
    nats = [
        _nats(hidden_ND[rows].to(weight_VD.dtype) @ weight_VD.T, targets_N[rows])
        for rows in _chunks(len(hidden_ND), len(weight_VD))
    ]
    return torch.cat(nats).view_as(targets_BT)


class _NextTokenLoss(torch.autograd.Function):
    """Sum of nats; the gradients are formed in the forward pass and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_weight_VD: Tensor, targets_N: Tensor, compiled: bool) -> Tensor:
        need_gradient = any(ctx.needs_input_grad)
        weight_VD = head_weight_VD.to(_compute_dtype(hidden_ND))
        hidden_grad_ND = torch.empty_like(hidden_ND) if need_gradient else None
        weight_grad_VD = torch.zeros_like(head_weight_VD) if need_gradient else None
        softmax = _compiled_nats_and_gradient() if compiled else nats_and_gradient
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden_ND.device.type, enabled=False):  # precisions are explicit here
            for rows in _chunks(len(hidden_ND), len(weight_VD)):
                hidden_CD = hidden_ND[rows].to(weight_VD.dtype)
                logits_CV = hidden_CD @ weight_VD.T
                if hidden_grad_ND is None or weight_grad_VD is None:
                    total += _nats(logits_CV, targets_N[rows]).sum()
                    continue
                nats, gradient_CV = softmax(logits_CV, targets_N[rows])
                total += nats
                hidden_grad_ND[rows] = gradient_CV @ weight_VD
                weight_grad_VD += gradient_CV.T @ hidden_CD
        ctx.save_for_backward(hidden_grad_ND, weight_grad_VD)
        return total

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad_ND, weight_grad_VD = ctx.saved_tensors
        (scale,) = output_gradients
        return hidden_grad_ND * scale.to(hidden_grad_ND.dtype), weight_grad_VD * scale, None, None


def nats_and_gradient(logits_CV: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor]:
    """The nats of a chunk's targets, summed, and their gradient by the logits: softmax - one-hot."""
    kept_C = targets_C != IGNORED
    index_C = targets_C.clamp(min=0)
    logits = logits_CV.float()
    normaliser_C = torch.logsumexp(logits, dim=-1)
    chosen_C = logits.gather(-1, index_C[:, None]).squeeze(-1)
    nats = ((normaliser_C - chosen_C) * kept_C).sum()
    one_hot_CV = torch.arange(logits.shape[-1], device=logits.device) == index_C[:, None]
    gradient_CV = (torch.exp(logits - normaliser_C[:, None]) - one_hot_CV.float()) * kept_C[:, None]
    return nats, gradient_CV.to(logits_CV.dtype)


@cache
def _compiled_nats_and_gradient() -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    # One pass over the chunk for the normaliser and one for the gradient, instead of about eight.
    return torch.compile(nats_and_gradient, dynamic=False)


def _nats(logits_CV: Tensor, targets_C: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits_CV.float(), targets_C, reduction="none", ignore_index=IGNORED)


def _compute_dtype(hidden_ND: Tensor) -> torch.dtype:
    device = hidden_ND.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(_MIN_ROWS, _CHUNK_ELEMENTS // vocabulary)
    return (slice(start, start + size) for start in range(0, rows, size))

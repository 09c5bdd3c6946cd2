"""Next-token loss without the logits of a whole batch.

With a 50k vocabulary the logits of 4,096 tokens are 0.8 GB in fp32, and writing and reading them is most of
a small model's training time. Here rows are taken in chunks: project, softmax, and at once the gradient,
so that one chunk's logits are all that ever exists. The idea is that of Liger Kernel's fused linear
cross-entropy (Hsu et al. 2024).
"""

# B batch, T tokens, N = B*T rows, C rows of one chunk, V vocabulary, P vocabulary with padding, D width

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from storylm.model import native
from storylm.model.native.loss import add_to_, softmax_gradient_

IGNORED = -100
_CHUNK_ELEMENTS = {"cpu": 3 * 2**23, "cuda": 2**27}  # logits of one chunk: 48 MB in bf16; on a GPU 256, to fill it
_MIN_ROWS = 256
_ALIGNMENT = (
    64  # rows and columns; matrix products over a vocabulary of 50,257 are up to a half slower than over 50,304
)


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
    rows = _rows_at_once(hidden_ND, weight_VD)
    chunks = zip(hidden_ND.split(rows), targets_N.split(rows), strict=True)
    nats = [_nats(hidden_CD.to(weight_VD.dtype) @ weight_VD.T, targets_C) for hidden_CD, targets_C in chunks]
    return torch.cat(nats).view_as(targets_BT)


class _NextTokenLoss(torch.autograd.Function):
    """Sum of nats; the gradients are formed in the forward pass and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_weight_VD: Tensor, targets_N: Tensor, compiled: bool) -> Tensor:
        vocabulary = len(head_weight_VD)
        if not any(ctx.needs_input_grad):
            return token_nats(hidden_ND, head_weight_VD, targets_N).sum()
        weight_PD = F.pad(head_weight_VD.to(_compute_dtype(hidden_ND)), (0, 0, 0, -vocabulary % _ALIGNMENT))
        hidden_grad_ND = torch.empty_like(hidden_ND)
        weight_grad_PD = torch.empty_like(weight_PD, dtype=torch.float32)
        softmax, add = _kernels(weight_PD, compiled)
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden_ND.device.type, enabled=False):  # precisions are explicit here
            rows = _rows_at_once(hidden_ND, weight_PD)
            # Made once: 48 fresh MB for each chunk costs the system more to hand out than the chunk to compute.
            logits_CP = weight_PD.new_empty(rows, len(weight_PD))
            more_PD = torch.empty_like(weight_PD)
            for first in range(0, len(hidden_ND), rows):
                chunk = slice(first, first + rows)
                hidden_CD = hidden_ND[chunk].to(weight_PD.dtype)
                chunk_logits_CP = torch.mm(hidden_CD, weight_PD.T, out=logits_CP[: len(hidden_CD)])
                nats, gradient_CP = softmax(chunk_logits_CP, targets_N[chunk], vocabulary)
                total += nats
                hidden_grad_ND[chunk] = gradient_CP @ weight_PD
                add(weight_grad_PD, torch.mm(gradient_CP.T, hidden_CD, out=more_PD), first == 0)
        ctx.gradients = hidden_grad_ND, weight_grad_PD[:vocabulary]
        return total

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad_ND, weight_grad_VD = ctx.gradients
        del ctx.gradients  # scaled in place: they serve once
        (scale,) = output_gradients
        return hidden_grad_ND.mul_(scale), weight_grad_VD.mul_(scale), None, None


def nats_and_gradient(logits_CP: Tensor, targets_C: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """The nats of a chunk's targets, summed, and their gradient by the logits: softmax - one-hot, 0 in the padding."""
    kept_C = targets_C != IGNORED
    index_C = targets_C.clamp(min=0)
    logits_CV = logits_CP[:, :vocabulary].float()
    normaliser_C = torch.logsumexp(logits_CV, dim=-1)
    chosen_C = logits_CV.gather(-1, index_C[:, None]).squeeze(-1)
    nats = ((normaliser_C - chosen_C) * kept_C).sum()
    one_hot_CV = torch.arange(vocabulary, device=logits_CV.device) == index_C[:, None]
    gradient_CV = (torch.exp(logits_CV - normaliser_C[:, None]) - one_hot_CV.float()) * kept_C[:, None]
    return nats, F.pad(gradient_CV.to(logits_CP.dtype), (0, logits_CP.shape[1] - vocabulary))


def _native_nats_and_gradient(logits_CP: Tensor, targets_C: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    return softmax_gradient_(logits_CP, targets_C, vocabulary).sum(), logits_CP


def _add(sums: Tensor, more: Tensor, first: bool) -> None:
    sums.copy_(more) if first else sums.add_(more)


def _kernels(weight_PD: Tensor, compiled: bool) -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., None]]:
    """What forms a chunk's gradient, and what adds up those of the weights."""
    if native.available(weight_PD.device) and weight_PD.dtype in native.DTYPES:
        return _native_nats_and_gradient, add_to_
    return (_compiled_nats_and_gradient() if compiled else nats_and_gradient), _add


@cache
def _compiled_nats_and_gradient() -> Callable[..., tuple[Tensor, Tensor]]:
    # One pass over the chunk for the normaliser and one for the gradient, instead of about eight.
    return torch.compile(nats_and_gradient, dynamic=False)


def _nats(logits_CV: Tensor, targets_C: Tensor) -> Tensor:
    return F.cross_entropy(logits_CV.float(), targets_C, reduction="none", ignore_index=IGNORED)


def _compute_dtype(hidden_ND: Tensor) -> torch.dtype:
    device = hidden_ND.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype


def _rows_at_once(hidden_ND: Tensor, weight_VD: Tensor) -> int:
    """As many as a chunk may have, or somewhat fewer so that all chunks are about as large."""
    elements = _CHUNK_ELEMENTS.get(hidden_ND.device.type, _CHUNK_ELEMENTS["cpu"])
    chunks = math.ceil(len(hidden_ND) / max(_MIN_ROWS, elements // len(weight_VD))) or 1
    return max(1, math.ceil(len(hidden_ND) / chunks / _ALIGNMENT) * _ALIGNMENT)

"""Kernels for training on a CPU where PyTorch has none or slow ones, in C++: attention, GELU, dropout, softmax.

`available` says whether they can be used; where not, their callers use PyTorch's own. Functions are deterministic: a
result depends on the arguments alone, not on threads.
"""

import torch

from storylm.model.native.build import library

DTYPES = (torch.float32, torch.bfloat16)


def available(device: torch.device) -> bool:
    """Whether tensors on `device` (of `DTYPES`) can be worked on."""
    return device.type == "cpu" and _is_built()


@torch.compiler.assume_constant_result
def _is_built() -> bool:
    return library() is not None

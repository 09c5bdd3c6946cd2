"""Kernels for training on a CPU where PyTorch has none or slow ones, in C++: attention, GELU, dropout, softmax.

`available` says whether they can be used; where not, their callers use PyTorch's own. Functions are deterministic: a
result depends on the arguments alone, not on threads.
"""

import torch

from storylm.model.native.build import library

DTYPES = (torch.float32, torch.bfloat16)


_found: bool | None = None  # a plain global, since torch.compile sees through neither caches nor compilers


def available(device: torch.device) -> bool:
    """Whether tensors on `device` (of `DTYPES`) can be worked on."""
    global _found
    if device.type != "cpu":
        return False
    if _found is None:
        _found = library() is not None
    return _found

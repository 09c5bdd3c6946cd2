"""Kernels in C++ for a CPU, where PyTorch has none or slow ones: attention, norms, activations, dropout, loss.

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


def fuses(x: torch.Tensor, *others: torch.Tensor) -> bool:
    """Whether a kernel takes `x`, of `DTYPES`, and `others`, in fp32; in a compiled model fusing is the compiler's."""
    return (
        not torch.compiler.is_compiling()
        and x.dtype in DTYPES
        and all(other.dtype == torch.float32 for other in others)
        and available(x.device)
    )

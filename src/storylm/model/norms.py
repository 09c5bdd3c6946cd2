"""Normalisation layers by name. Both work over the last dimension, in the precision of their input."""

from torch import nn

NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm}


def build_norm(kind: str, width: int, eps: float) -> nn.Module:
    """A norm over `width` features; `kind` is a key of `NORMS`."""
    return NORMS[kind](width, eps=eps)

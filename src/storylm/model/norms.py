"""Normalisation layers by name. Both work over the last dimension, in the precision of their weights."""

from torch import Tensor, nn
from torch.nn import functional as F

from storylm.model import native
from storylm.model.native.norm import rms_norm


class RMSNorm(nn.RMSNorm):
    """x / rms(x) * weight. Under autocast queries and keys come as bf16, for which torch has no fused kernel
    with fp32 weights: they are normalised in fp32, which is also what transformers does."""

    eps: float  # pyright: ignore[reportIncompatibleVariableOverride] - `build_norm` always gives one

    def forward(self, x: Tensor) -> Tensor:
        if native.fuses(x, self.weight):
            return rms_norm(x, self.weight, self.eps)
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps)


NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": RMSNorm}


def build_norm(kind: str, width: int, eps: float) -> nn.Module:
    """A norm over `width` features; `kind` is a key of `NORMS`."""
    return NORMS[kind](width, eps=eps)

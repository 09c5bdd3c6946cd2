"""The part of a block that looks at one token at a time."""

# B batch, T tokens, D width, F feed-forward width

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from storylm.config.model import ModelConfig
from storylm.model import native
from storylm.model.native.activation import gelu_tanh as native_gelu_tanh
from storylm.model.native.activation import silu_gated


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU (Primer, So et al. 2021)."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh form (Hendrycks and Gimpel 2016), as GPT-2 has it."""
    if native.available(x.device) and x.dtype in native.DTYPES:
        return native_gelu_tanh(x)
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "silu": F.silu,
    "relu": F.relu,
    "relu2": relu2,
}


class FeedForward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) where gated (Shazeer 2020: with SiLU this is SwiGLU)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.gate = nn.Linear(config.width, config.ff_width, bias=config.ff_bias) if config.gated else None
        self.up = nn.Linear(config.width, config.ff_width, bias=config.ff_bias)
        self.down = nn.Linear(config.ff_width, config.width, bias=config.ff_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.gate is None:
            h_BTF = self.activation(self.up(x_BTD))
        else:
            h_BTF = self._gated(self.gate(x_BTD), self.up(x_BTD))
        return self.down(h_BTF)

    def _gated(self, gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
        if self.activation is F.silu and native.fuses(gate_BTF):
            return silu_gated(gate_BTF, up_BTF)
        return self.activation(gate_BTF) * up_BTF

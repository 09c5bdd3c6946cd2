"""How a token knows its place: a learned vector per position, rotated queries and keys, or nothing.

Each kind answers two questions: what is added to the embeddings (`add`), and by which angles queries and
keys turn (`angles`, None for no rotation).
"""

# B batch, T tokens, D width, H heads, K head width, R = K/2 rotation planes

import torch
from torch import Tensor, nn

from storylm.config.model import ModelConfig

Angles = tuple[Tensor, Tensor]  # cosines and sines, each [B or 1, 1, T, R]


class NoPositions(nn.Module):
    """The causal mask alone tells order (NoPE, Kazemnejad et al. 2023)."""

    def __init__(self, config: ModelConfig):
        super().__init__()

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        return x_BTD

    def angles(self, positions_BT: Tensor) -> Angles | None:
        return None


class LearnedPositions(NoPositions):
    """One trained vector per position, added to the token's embedding (GPT-2, GPT-Neo)."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.table = nn.Embedding(config.context, config.width)

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        return x_BTD + self.table(positions_BT)


class RotaryPositions(NoPositions):
    """Queries and keys turn by an angle proportional to their position (RoPE, Su et al. 2021)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        planes = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
        frequencies_R = config.rope_theta**-planes
        angles_TR = torch.outer(torch.arange(config.context, dtype=torch.float64), frequencies_R)
        self.register_buffer("cos", angles_TR.cos().float(), persistent=False)
        self.register_buffer("sin", angles_TR.sin().float(), persistent=False)

    def angles(self, positions_BT: Tensor) -> Angles | None:
        return self.cos[positions_BT].unsqueeze(1), self.sin[positions_BT].unsqueeze(1)


POSITIONS = {"learned": LearnedPositions, "rotary": RotaryPositions, "none": NoPositions}


def rotate(x_BHTK: Tensor, angles: Angles, layout: str) -> Tensor:
    """Turn each plane of features by its angle; `layout` says which two features share a plane.

    "half" pairs feature i with i + K/2 (GPT-NeoX, transformers), "interleaved" 2i with 2i+1 (the RoPE
    paper, llama2.c). The two are the same model with its query and key features in another order.
    """
    cos, sin = angles  # in fp32, and so is the result, whatever the precision of queries and keys
    if layout == "half":
        a, b = x_BHTK.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    a, b = x_BHTK.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)

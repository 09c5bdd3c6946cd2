"""Matrices in fewer bits for PyTorch, made once: what C++ packs for itself (`native.decode`).

Numbers are those of the C++: inputs of a bf16 matrix are rounded to bf16, products are summed up in fp32, and biases,
norms and embeddings stay fp32.
"""

# N outputs, M inputs

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storylm.model.attention import Attention
from storylm.model.int8 import int8_rows
from storylm.model.transformer import Transformer


class Fp32(nn.Module):
    """A matrix [N, M] as it is."""

    def __init__(self, weight_NM: Tensor, bias_N: Tensor | None = None):
        super().__init__()
        self.weight_NM, self.bias_N = weight_NM, bias_N

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.float(), self.weight_NM, self.bias_N)


class Bf16(Fp32):
    """In bf16 on a GPU. On a CPU rounded to it, but kept in fp32: few processors are quick at multiplying bf16."""

    def __init__(self, weight_NM: Tensor, bias_N: Tensor | None = None):
        rounded_NM = weight_NM.bfloat16()
        super().__init__(rounded_NM if weight_NM.is_cuda else rounded_NM.float(), bias_N)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            return super().forward(x.bfloat16())
        rows = x.bfloat16().flatten(0, -2)
        y = torch.mm(rows, self.weight_NM.T, out_dtype=torch.float32).unflatten(0, x.shape[:-1])
        return y if self.bias_N is None else y + self.bias_N


class Int8(nn.Module):
    """In eight bits, and a scale for each output. It saves memory, not time: they are made fp32 for every product.

    For eight rows of fp32 on a CPU `torch._weight_int8pack_mm` took three to ten times as long (torch 2.13).
    """

    def __init__(self, weight_NM: Tensor, bias_N: Tensor | None = None):
        super().__init__()
        self.numbers_NM, self.scales_N = int8_rows(weight_NM)
        self.bias_N = bias_N

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x.float(), self.numbers_NM.float()) * self.scales_N
        return y if self.bias_N is None else y + self.bias_N


class _Rounded(nn.Module):
    def __init__(self, matrix: nn.Module):
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix(x).bfloat16()


MATRICES = {"fp32": Fp32, "bf16": Bf16, "int8": Int8}


def in_precision(model: Transformer, precision: str) -> tuple[Transformer, nn.Module]:
    """The model for reading alone, without its head, and the head; `precision` is a key of `MATRICES`.

    Weights that are fp32 and stay so are shared with the model, modules are not: what others do with those of the model
    (train, hook, compile) is not done with these.
    """
    matrix = MATRICES[precision]
    shared = {id(x): x.detach().float() for x in (*model.parameters(), *model.buffers())}
    head = matrix(model.head_weight.detach().float())
    reading = copy.deepcopy(model, shared).eval()
    reading.head = None
    for module in list(reading.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, matrix(child.weight, child.bias))
    if precision != "fp32" and model.device.type == "cuda":
        attend_in_bf16(reading)
    return reading, head


def attend_in_bf16(reading: Transformer) -> None:
    """Values in bf16, and attention is in the numbers of the values: a GPU's is much quicker so."""
    for module in list(reading.modules()):
        if isinstance(module, Attention):
            module.add_module("v", _Rounded(module.v))

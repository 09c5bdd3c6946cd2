"""`decode.cpp` on a model: passes over tokens of many stories, each in a slot of the cache."""

# B tokens, N outputs and M inputs of a matrix, V vocabulary

import ctypes
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storylm.config.model import ModelConfig
from storylm.generation.cache import check_capacity
from storylm.generation.native import kernels
from storylm.model.int8 import int8_rows
from storylm.model.transformer import Block, Transformer

# In the order of decode.cpp.
ACTIVATIONS = ("gelu", "gelu_tanh", "silu", "relu", "relu2")
# Inputs that are taken at once, and the type of cached keys and values.
KINDS: dict[str, tuple[int, torch.dtype]] = {
    "fp32": (1, torch.float32),
    "bf16": (2, torch.bfloat16),
    "int8_weights": (4, torch.int8),
    "int8": (4, torch.int8),
}
TRIES = 5
AT_ONCE = 64  # tokens of a pass: as many as keep their numbers in the cache of a core


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class _Matrix(ctypes.Structure):
    _fields_ = _fields(ctypes.c_void_p, "panels scales bias sums") + _fields(ctypes.c_int64, "outputs inputs")


class _Norm(ctypes.Structure):
    _fields_ = _fields(ctypes.c_void_p, "gain bias")


class _Layer(ctypes.Structure):
    _fields_ = [
        *_fields(_Norm, "attention_norm ff_norm q_norm k_norm"),
        *_fields(_Matrix, "qkv out up down"),
        *_fields(ctypes.c_void_p, "keys values key_scales value_scales"),
        *_fields(ctypes.c_int64, "window size"),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        *_fields(ctypes.c_int64, "depth width heads groups head_width ff_width activation gated interleaved"),
        *_fields(ctypes.c_void_p, "embedding positions cos sin"),
        ("norm", _Norm),
        ("head", _Matrix),
        *_fields(ctypes.c_float, "eps scale"),
    ]


class _Pass(ctypes.Structure):
    _fields_ = [
        *_fields(ctypes.c_void_p, "tokens places slots wanted logits room"),
        *_fields(ctypes.c_int64, "count wanted_count distinct threads"),
    ]


def kinds() -> list[str]:
    """Those of `KINDS` that this processor has instructions for."""
    found = kernels()
    return [kind for kind in KINDS if kind != "int8" or (found is not None and found.decode_has_int8())]


class NativeModel:
    """The weights of a `Transformer` as decode.cpp reads them, and a cache with so many slots of `capacity` tokens.

    `kind` is one of `KINDS`; embeddings and norms stay fp32. Whoever changes the model's weights builds
    another of these: matrices are copied, and what is fp32 already is not.

    Raises:
        UsageError: a capacity beyond the context, of which alone there are positions.
    """

    def __init__(self, model: Transformer, kind: str, slots: int, capacity: int):
        check_capacity(capacity, model.config)
        self.vocab_size, self.kind, self.slots, self.capacity = model.config.vocab_size, kind, slots, capacity
        self._library, self._kept = _kernels(), []
        self._lanes, (self._depth, self._cached) = int(self._library.decode_lanes()), KINDS[kind]
        self._read = getattr(self._library, f"decode_{kind}")
        self._read.restype, self._library.decode_room.restype = None, ctypes.c_int64
        self._model = self._described(model, capacity)
        self._room = torch.empty(0, dtype=torch.uint8)
        self.threads = 1
        self.threads = self._best_threads()

    def read(self, tokens_B: Tensor, places_B: Tensor, slots_B: Tensor, wanted: Sequence[int]) -> Tensor:
        """Read tokens, each at its place of the story in its slot; scores [wanted, V] for what follows some of them.

        All [B] of int64. A story's tokens come in order, over one pass or several.

        Raises:
            ValueError: a token, place or slot that there is not.
        """
        given = {
            "tokens": (tokens_B, self.vocab_size),
            "places": (places_B, self.capacity),
            "slots": (slots_B, self.slots),
        }
        for name, (numbers_B, limit) in given.items():  # else decode.cpp would read and write elsewhere
            lowest, highest = (int(number) for number in numbers_B.aminmax())
            if numbers_B.dtype != torch.int64 or len(numbers_B) != len(tokens_B) or lowest < 0 or highest >= limit:
                raise ValueError(
                    f"{name} are {len(numbers_B)} of {numbers_B.dtype} from {lowest} to {highest}: "
                    f"{len(tokens_B)} of torch.int64 from 0 to {limit - 1} are allowed"
                )
        scores = []
        for first in range(0, len(tokens_B), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            here = [index - first for index in wanted if first <= index < first + AT_ONCE]
            scores.append(self._pass(tokens_B[part], places_B[part], slots_B[part], here))
        return scores[0] if len(scores) == 1 else torch.cat(scores)

    def _pass(self, tokens_B: Tensor, places_B: Tensor, slots_B: Tensor, wanted: list[int]) -> Tensor:
        count, outputs = len(tokens_B), self._model.head.outputs
        wanted_N, logits_NV = torch.tensor(wanted, dtype=torch.int64), torch.empty(len(wanted), outputs)
        size = self._library.decode_room(ctypes.byref(self._model), ctypes.c_int64(count), ctypes.c_int64(self.threads))
        if self._room.numel() < size + 64:
            self._room = torch.empty(size + 64, dtype=torch.uint8)
        room = -(-self._room.data_ptr() // 64) * 64
        given = [x.contiguous() for x in (tokens_B, places_B, slots_B, wanted_N, logits_NV)]
        distinct = len(set(slots_B.tolist())) == count
        told = _Pass(*(x.data_ptr() for x in given), room, count, len(wanted), distinct, self.threads)
        self._read(ctypes.byref(self._model), ctypes.byref(told))
        return logits_NV[:, : self.vocab_size]

    def _best_threads(self) -> int:
        """How many are quickest for a token in each slot: a small model waits longer for a second than it works."""
        most = torch.get_num_threads()
        counts = [2**n for n in range(most.bit_length()) if 2**n < most] + [most]
        slots_B = torch.arange(min(self.slots, AT_ONCE))  # more are one such pass after another
        zeros_B, wanted = torch.zeros_like(slots_B), range(len(slots_B))
        seconds = dict.fromkeys(counts, math.inf)
        for self.threads in TRIES * counts if most > 1 else []:
            began = time.perf_counter()
            self.read(zeros_B, zeros_B, slots_B, wanted)
            seconds[self.threads] = min(seconds[self.threads], time.perf_counter() - began)
        return min(counts, key=lambda count: seconds[count])

    def _described(self, model: Transformer, capacity: int) -> _Model:
        config = model.config
        layers = [self._layer(block, config, config.window(n), capacity) for n, block in enumerate(model.blocks)]
        tables = [getattr(model.positions, name, None) for name in ("table", "cos", "sin")]
        return _Model(
            (_Layer * len(layers))(*layers),
            *(config.layers, config.width, config.heads, config.kv_heads, config.head_dim, config.ff_width),
            *(ACTIVATIONS.index(config.activation), config.gated, config.rope_layout == "interleaved"),
            self._floats(model.embedding.weight),
            *(self._floats(table.weight if isinstance(table, nn.Embedding) else table) for table in tables),
            self._norm(model.norm),
            self._matrix([model.head_weight], [None]),
            *(config.norm_eps, config.scale),
        )

    def _layer(self, block: Any, config: ModelConfig, window: int | None, capacity: int) -> _Layer:
        assert isinstance(block, Block)
        attention, ff = block.attention, block.ff
        size = capacity if window is None else min(capacity, window + AT_ONCE - 1)  # none is lost before its time
        size = -(-size // self._lanes) * self._lanes
        stories = self.slots * config.kv_heads * size
        kept = [torch.zeros(stories * (-(-config.head_dim // unit) * unit), dtype=self._cached) for unit in (4, 16)]
        scales = [torch.zeros(stories) if self._cached is torch.int8 else None for _ in kept]
        qkv, out, down = [attention.q, attention.k, attention.v], [attention.out], [ff.down]
        up = [ff.up] if ff.gate is None else [ff.gate, ff.up]
        return _Layer(
            *(self._norm(norm) for norm in (block.attention_norm, block.ff_norm, attention.q_norm, attention.k_norm)),
            self._matrix([torch.cat([each.weight for each in qkv])], [_joined(qkv)]),
            *(self._matrix([each.weight for each in many], [each.bias for each in many]) for many in (out, up, down)),
            *(self._pointer(each) for each in (*kept, *scales)),
            *(window or 0, size),
        )

    def _matrix(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> _Matrix:
        """Matrices whose panels take turns, in this kind of numbers."""
        packed, scales, sums = [], [], []
        for weight_NM in weights:
            numbers_NM = weight_NM.detach().float().cpu()
            if self.kind.startswith("int8"):
                numbers_NM, scales_N = int8_rows(numbers_NM)
                scales.append(self._by_panel(scales_N))
                sums.append(self._by_panel(128 * numbers_NM.sum(1, dtype=torch.int32)))
            elif self.kind == "bf16":
                numbers_NM = numbers_NM.bfloat16()
            packed.append(self._panels(numbers_NM))
        bias = [self._by_panel(bias.detach().float().cpu()) for bias in biases if bias is not None]
        panels = torch.stack(packed, 1)
        vectors = [self._pointer(torch.stack(each, 1)) if each else None for each in (scales, bias, sums)]
        inputs = panels.shape[2] * self._depth
        return _Matrix(self._pointer(panels), *vectors, panels.shape[0] * panels.shape[1] * self._lanes, inputs)

    def _panels(self, weight_NM: Tensor) -> Tensor:
        """[outputs / lanes, inputs / depth, lanes, depth], with zeros behind the last of either."""
        (outputs, inputs), lanes, depth = weight_NM.shape, self._lanes, self._depth
        weight_NM = F.pad(weight_NM, (0, -inputs % depth, 0, -outputs % lanes))
        return weight_NM.unflatten(1, (-1, depth)).unflatten(0, (-1, lanes)).transpose(1, 2)

    def _by_panel(self, vector_N: Tensor) -> Tensor:
        return F.pad(vector_N, (0, -len(vector_N) % self._lanes)).unflatten(0, (-1, self._lanes))

    def _norm(self, norm: nn.Module | None) -> _Norm:
        return _Norm(*(self._floats(getattr(norm, name, None)) for name in ("weight", "bias")))

    def _floats(self, tensor: Tensor | None) -> int | None:
        """The address of its numbers in fp32, which is what decode.cpp takes for all that is no matrix."""
        return None if tensor is None else self._pointer(tensor.detach().float())

    def _pointer(self, tensor: Tensor | None) -> int | None:
        """The address of its numbers as they are; they are kept as long as this is."""
        if tensor is None:
            return None
        tensor = tensor.detach().cpu().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _joined(projections: list[nn.Linear]) -> Tensor | None:
    biases: list[Tensor] = [each.bias for each in projections if each.bias is not None]
    return torch.cat(biases) if biases else None


def _kernels() -> ctypes.CDLL:
    found = kernels()
    assert found is not None, "ask `kernels` before"
    return found

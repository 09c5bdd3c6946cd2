"""llama2.c's `run.c` at temperature 0 once more, in NumPy alone: what our own model is held against.

Straight from the paper's formulas and the layout of the files; shares nothing with the package.
"""

import re
import struct
from pathlib import Path

import numpy as np

Array = np.ndarray
BOS = 1


class NumpyLlama:
    """A version 0 `.bin`: one token at a time, keys and values kept."""

    def __init__(self, path: Path):
        data = path.read_bytes()
        self.dim, hidden, self.layers, self.heads, self.kv_heads, vocab, context = struct.unpack("<7i", data[:28])
        floats = np.frombuffer(data, "<f4", offset=28).astype(np.float64)
        head = self.dim // self.heads
        L, D, KV = self.layers, self.dim, self.kv_heads * head
        shapes = {
            "tokens": (abs(vocab), D),
            "norm1": (L, D),
            "wq": (L, D, D),
            "wk": (L, KV, D),
            "wv": (L, KV, D),
            "wo": (L, D, D),
            "norm2": (L, D),
            "w1": (L, hidden, D),
            "w2": (L, D, hidden),
            "w3": (L, hidden, D),
            "norm": (D,),
            "cos": (context, head // 2),
            "sin": (context, head // 2),
        }
        self.w: dict[str, Array] = {}
        at = 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            self.w[name] = floats[at : at + size].reshape(shape)
            at += size
        self.w["head"] = self.w["tokens"] if vocab > 0 else floats[at:].reshape(abs(vocab), D)
        assert vocab < 0 or at == len(floats)
        self.keys: list[list[Array]] = [[] for _ in range(L)]
        self.values: list[list[Array]] = [[] for _ in range(L)]

    def step(self, token: int, position: int) -> Array:
        """Logits of the token after this one."""
        w, head = self.w, self.dim // self.heads
        x = w["tokens"][token]
        for layer in range(self.layers):
            h = _rmsnorm(x, w["norm1"][layer])
            q = _rotate((w["wq"][layer] @ h).reshape(self.heads, head), position)
            k = _rotate((w["wk"][layer] @ h).reshape(self.kv_heads, head), position)
            self.keys[layer].append(k)
            self.values[layer].append((w["wv"][layer] @ h).reshape(self.kv_heads, head))
            keys, values = np.array(self.keys[layer]), np.array(self.values[layer])
            out = np.empty((self.heads, head))
            for i in range(self.heads):
                group = i // (self.heads // self.kv_heads)
                scores = keys[:, group] @ q[i] / np.sqrt(head)
                weights = np.exp(scores - scores.max())
                out[i] = weights / weights.sum() @ values[:, group]
            x = x + w["wo"][layer] @ out.reshape(-1)
            h = _rmsnorm(x, w["norm2"][layer])
            gate = w["w1"][layer] @ h
            x = x + w["w2"][layer] @ (gate / (1 + np.exp(-gate)) * (w["w3"][layer] @ h))
        return w["head"] @ _rmsnorm(x, w["norm"])

    def greedy(self, tokens: int) -> list[int]:
        """The ids that follow BOS, the likeliest each time."""
        ids = [BOS]
        for position in range(tokens):
            ids.append(int(self.step(ids[-1], position).argmax()))
        return ids[1:]


def _rmsnorm(x: Array, weight: Array) -> Array:
    return weight * x / np.sqrt(np.mean(x * x) + 1e-5)


def _rotate(x: Array, position: int) -> Array:
    """Features 2i and 2i+1 turn by position / 10000^(2i/K)."""
    angles = position * 10_000.0 ** (-np.arange(0, x.shape[1], 2) / x.shape[1])
    turned = (x[:, ::2] + 1j * x[:, 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def read_pieces(path: Path) -> list[bytes]:
    """The pieces of llama2.c's `tok512.bin`, by id."""
    data, pieces, at = path.read_bytes(), [], 4  # first the longest length
    while at < len(data):
        _score, length = struct.unpack_from("<fi", data, at)
        pieces.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return pieces


def tell(pieces: list[bytes], ids: list[int]) -> str:
    """What run.c prints: pieces as they are, byte tokens as bytes, no space at the very start."""
    text = b"".join(
        bytes([int(match[1], 16)]) if (match := re.fullmatch(rb"<0x([0-9A-F]{2})>", pieces[id])) else pieces[id]
        for id in ids
    )
    return text.decode().removeprefix(" ")

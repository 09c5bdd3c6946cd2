"""llama2.c's `run.c` and `runq.c` at temperature 0 once more, in NumPy alone: what our own model is held against.

Straight from the paper's formulas and the layout of the files; shares nothing with the package.
"""

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Array = np.ndarray
BOS = 1
LEGACY = ["tokens", "norm1", "wq", "wk", "wv", "wo", "norm2", "w1", "w2", "w3", "norm", "cos", "sin", "head"]
VERSIONED = ["norm1", "norm2", "norm", "tokens", "wq", "wk", "wv", "wo", "w1", "w2", "w3", "head"]


class NumpyLlama:
    """A `.bin` of version 0, 1 or 2 (in 8 bits): one token at a time, keys and values kept.

    `rounding`: what a matrix in 8 bits is multiplied with is rounded to 8 bits, too, as `runq` does.
    """

    def __init__(self, path: Path, rounding: bool = True):
        data = path.read_bytes()
        magic, version = struct.unpack_from("<Ii", data)
        if magic == 0x616B3432:  # "ak42"
            at, order, sizes, tied = 256, VERSIONED, struct.unpack_from("<7i", data, 8), bool(data[36])
        else:
            version, at, order, sizes = 0, 28, LEGACY, struct.unpack_from("<7i", data)
            tied = sizes[5] > 0
        group = struct.unpack_from("<i", data, 37)[0] if version == 2 else 0
        self.group = group if rounding else 0
        self.dim, hidden, self.layers, self.heads, self.kv_heads, vocab, context = sizes
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
            "head": (abs(vocab), D),
        }
        self.w: dict[str, Array] = {}
        for name in order:
            if name == "head" and tied:
                continue
            layers = L if len(shapes[name]) == 3 else 1
            size = int(np.prod(shapes[name])) // layers
            parts = []
            for _ in range(layers):
                if group and not name.startswith("norm"):  # numbers, then their scales
                    numbers = np.frombuffer(data, np.int8, size, at).astype(np.float64).reshape(-1, group)
                    scales = np.frombuffer(data, "<f4", size // group, at + size)
                    parts.append(numbers * scales[:, None])
                    at += size + scales.nbytes
                else:
                    parts.append(np.frombuffer(data, "<f4", size, at).astype(np.float64))
                    at += 4 * size
            self.w[name] = np.stack(parts).reshape(shapes[name])
        assert at == len(data)
        self.w.setdefault("head", self.w["tokens"])
        self.keys: list[list[Array]] = [[] for _ in range(L)]
        self.values: list[list[Array]] = [[] for _ in range(L)]

    def step(self, token: int, position: int) -> Array:
        """Logits of the token after this one."""
        w, head, times = self.w, self.dim // self.heads, self._times
        x = w["tokens"][token]
        for layer in range(self.layers):
            h = _rmsnorm(x, w["norm1"][layer])
            q = _rotate(times(w["wq"][layer], h).reshape(self.heads, head), position)
            k = _rotate(times(w["wk"][layer], h).reshape(self.kv_heads, head), position)
            self.keys[layer].append(k)
            self.values[layer].append(times(w["wv"][layer], h).reshape(self.kv_heads, head))
            keys, values = np.array(self.keys[layer]), np.array(self.values[layer])
            out = np.empty((self.heads, head))
            for i in range(self.heads):
                group = i // (self.heads // self.kv_heads)
                scores = keys[:, group] @ q[i] / np.sqrt(head)
                weights = np.exp(scores - scores.max())
                out[i] = weights / weights.sum() @ values[:, group]
            x = x + times(w["wo"][layer], out.reshape(-1))
            h = _rmsnorm(x, w["norm2"][layer])
            gate = times(w["w1"][layer], h)
            x = x + times(w["w2"][layer], gate / (1 + np.exp(-gate)) * times(w["w3"][layer], h))
        return times(w["head"], _rmsnorm(x, w["norm"]))

    def _times(self, matrix: Array, x: Array) -> Array:
        return matrix @ (_rounded(x, self.group) if self.group else x)

    def greedy(self, tokens: int, prompt: Sequence[int] = (BOS,)) -> list[int]:
        """So many ids that follow BOS: the rest of the prompt, then the likeliest each time, until that is BOS."""
        ids = list(prompt)
        for position in range(tokens):
            logits = self.step(ids[position], position)
            if position == len(ids) - 1:
                if logits.argmax() == BOS:
                    break
                ids.append(int(logits.argmax()))
        return ids[1:]


def _rounded(x: Array, group: int) -> Array:
    """To 255 steps between the largest of each `group` numbers and its negative; halves away from 0, as C rounds."""
    groups = x.reshape(-1, group)
    scales = np.maximum(np.abs(groups).max(1, keepdims=True), 1e-30) / 127
    return (np.sign(groups) * np.floor(np.abs(groups) / scales + 0.5) * scales).reshape(-1)


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
    """Pieces as they are, byte tokens as bytes, no space at the very start."""
    return b"".join(_piece(pieces, id) for id in ids).decode().removeprefix(" ")


def printed(pieces: list[bytes], ids: list[int]) -> bytes:
    """What the programs print, which is `tell` but for single bytes that a terminal has no sign for."""
    texts = [_piece(pieces, id) for id in ids]
    texts[:1] = [text.removeprefix(b" ") for text in texts[:1]]
    return b"".join(text for text in texts if len(text) != 1 or 0x20 <= text[0] < 0x7F or text in b"\t\n\v\f\r")


def _piece(pieces: list[bytes], id: int) -> bytes:
    match = re.fullmatch(rb"<0x([0-9A-F]{2})>", pieces[id])
    return bytes([int(match[1], 16)]) if match else pieces[id]

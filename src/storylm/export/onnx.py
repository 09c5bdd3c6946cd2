"""ONNX, which onnxruntime and transformers.js run: the model in fp32, with and without a cache of keys and values.

    model.onnx             input_ids, attention_mask, position_ids, past_key_values.N.key and .value
                           -> logits, present.N.key and .value; a past of length 0 begins a story
    model_no_cache.onnx    input_ids, attention_mask -> logits

Rows of a batch are filled up at the left, with 0 in the attention mask. Names are those that transformers.js looks for.
"""

# B batch, T tokens, P tokens of the past, S = P + T, D width, H heads, G key/value heads, R = H / G, K head width,
# F feed-forward width, V vocabulary

from pathlib import Path

import torch

from storylm.config.errors import UsageError
from storylm.config.files import atomic_file
from storylm.export.onnx_activations import ACTIVATIONS
from storylm.export.onnx_graph import Graph
from storylm.model.positions import RotaryPositions
from storylm.model.tensor_names import with_layout
from storylm.model.transformer import Transformer

WITH_CACHE, WITHOUT_CACHE = "model.onnx", "model_no_cache.onnx"
_HIDDEN = torch.finfo(torch.float32).min  # the score of a key that is not seen; not -inf: rows of padding see none
_LARGEST_FILE = 2**31  # bytes that a protobuf message may have


def write_onnx(model: Transformer, path: str | Path, cache: bool = True) -> None:
    """Write the model as one file, with a cache or without.

    Raises:
        UsageError: it does not fit into one file.
        SetupError: the package `onnx` is missing.
    """
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > _LARGEST_FILE:
        raise UsageError(
            f"the model is {size / 2**30:.1f} GiB in fp32, and an ONNX file at most 2: export to hf or gguf"
        )
    graph = _Writer(model).write(cache).model()
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(graph.SerializeToString())


class _Writer:
    def __init__(self, model: Transformer):
        self.config, self.graph = model.config, Graph()
        state = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
        self.state = {name: with_layout(name, tensor, model.config, "half") for name, tensor in state.items()}
        self.positions = model.positions

    def write(self, cache: bool) -> Graph:
        """The graph from tokens to logits."""
        config, graph = self.config, self.graph
        total = "total" if cache else "sequence"
        tokens_BT = graph.input("input_ids", ["batch", "sequence"], integer=True)
        mask_BS = graph.input("attention_mask", ["batch", total], integer=True)
        if cache:
            positions_BT = graph.input("position_ids", ["batch", "sequence"], integer=True)
        else:
            counted_BT = graph("Sub", graph("CumSum", mask_BS, graph.integer(1)), graph.integer(1))
            positions_BT = graph("Max", counted_BT, graph.integer(0))  # where padding stands does not matter
        seen = {window: self._seen(tokens_BT, mask_BS, window) for window in dict.fromkeys(config.windows)}
        angles = self._angles(positions_BT)
        x_BTD = graph("Gather", self._weight("embedding"), tokens_BT)
        if config.positions == "learned":
            x_BTD = graph("Add", x_BTD, graph("Gather", self._weight("positions.table"), positions_BT))
        for layer in range(config.layers):
            attended_BTD = self._attention(layer, x_BTD, angles, seen[config.window(layer)], cache)
            x_BTD = graph("Add", x_BTD, attended_BTD)
            x_BTD = graph("Add", x_BTD, self._feed_forward(f"blocks.{layer}", x_BTD))
        head_VD = self._weight("embedding" if config.tied else "head")
        graph("MatMul", self._norm("norm", x_BTD), graph("Transpose", head_VD, perm=[1, 0]), name="logits")
        graph.output("logits", ["batch", "sequence", config.vocab_size])
        for layer in range(config.layers if cache else 0):
            for kind in ("key", "value"):
                shape = ["batch", config.kv_heads, total, config.head_dim]
                graph.output(f"present.{layer}.{kind}", shape)
        return graph

    def _seen(self, tokens_BT: str, mask_BS: str, window: int | None) -> str:
        """Which keys a query sees, [B, 1, 1, T, S]: `model.sight.visible` by places in the row, without padding."""
        graph = self.graph
        length_T, length_S = (graph("Gather", graph("Shape", x), graph.integer(1)) for x in (tokens_BT, mask_BS))
        keys_S = graph("Range", graph.integer(0), length_S, graph.integer(1))
        queries_T = graph("Range", graph("Sub", length_S, length_T), length_S, graph.integer(1))
        distance_TS = graph("Sub", graph("Unsqueeze", queries_T, graph.integers(1)), keys_S)
        seen_TS = graph("GreaterOrEqual", distance_TS, graph.integer(0))
        if window is not None:
            seen_TS = graph("And", seen_TS, graph("Less", distance_TS, graph.integer(window)))
        story_BS = graph("Greater", mask_BS, graph.integer(0))
        return graph("And", graph("Unsqueeze", story_BS, graph.integers(1, 2, 3)), seen_TS)

    def _angles(self, positions_BT: str) -> tuple[str, str] | None:
        """Cosines and sines, [B, 1, T, K/2]."""
        graph, positions = self.graph, self.positions
        if not isinstance(positions, RotaryPositions):
            return None
        cos, sin = (
            graph("Unsqueeze", graph("Gather", graph.weight(name, table.cpu()), positions_BT), graph.integers(1))
            for name, table in (("cos", positions.cos), ("sin", positions.sin))
        )
        return cos, sin

    def _attention(self, layer: int, x_BTD: str, angles: tuple[str, str] | None, seen: str, cache: bool) -> str:
        config, graph, name = self.config, self.graph, f"blocks.{layer}.attention"
        h_BTD = self._norm(f"blocks.{layer}.attention_norm", x_BTD)
        q_BHTK = self._heads(f"{name}.q", h_BTD, config.heads)
        k_BGSK, v_BGSK = (self._heads(f"{name}.{part}", h_BTD, config.kv_heads) for part in ("k", "v"))
        if config.qk_norm:
            q_BHTK, k_BGSK = self._norm(f"{name}.q_norm", q_BHTK), self._norm(f"{name}.k_norm", k_BGSK)
        if angles is not None:
            q_BHTK, k_BGSK = (self._rotated(x, *angles) for x in (q_BHTK, k_BGSK))
        if cache:
            shape = ["batch", config.kv_heads, "past", config.head_dim]
            past = [graph.input(f"past_key_values.{layer}.{kind}", shape) for kind in ("key", "value")]
            k_BGSK = graph("Concat", past[0], k_BGSK, axis=2, name=f"present.{layer}.key")
            v_BGSK = graph("Concat", past[1], v_BGSK, axis=2, name=f"present.{layer}.value")
        shared, (B, T) = config.heads // config.kv_heads, (0, -1)  # as Reshape has it: the size there is, the rest
        q_BGRTK = graph("Reshape", q_BHTK, graph.integers(B, config.kv_heads, shared, T, config.head_dim))
        k_BG1SK, v_BG1SK = (graph("Unsqueeze", x, graph.integers(2)) for x in (k_BGSK, v_BGSK))
        scores = graph("MatMul", q_BGRTK, graph("Transpose", k_BG1SK, perm=[0, 1, 2, 4, 3]))
        scores = graph("Where", seen, graph("Mul", scores, graph.number(config.scale)), graph.number(_HIDDEN))
        found_BGRTK = graph("MatMul", graph("Softmax", scores, axis=-1), v_BG1SK)
        found_BTGRK = graph("Transpose", found_BGRTK, perm=[0, 3, 1, 2, 4])
        return self._linear(
            f"{name}.out", graph("Reshape", found_BTGRK, graph.integers(B, T, config.heads * config.head_dim))
        )

    def _heads(self, name: str, x_BTD: str, heads: int) -> str:
        """The heads of a projection, [B, heads, T, K]."""
        shape = self.graph.integers(0, 0, heads, self.config.head_dim)
        return self.graph("Transpose", self.graph("Reshape", self._linear(name, x_BTD), shape), perm=[0, 2, 1, 3])

    def _rotated(self, x_BHTK: str, cos: str, sin: str) -> str:
        graph = self.graph
        a, b = graph.several("Split", x_BHTK, names=["", ""], axis=-1, num_outputs=2)
        first = graph("Sub", graph("Mul", a, cos), graph("Mul", b, sin))
        second = graph("Add", graph("Mul", b, cos), graph("Mul", a, sin))
        return graph("Concat", first, second, axis=-1)

    def _feed_forward(self, block: str, x_BTD: str) -> str:
        graph, activation = self.graph, ACTIVATIONS[self.config.activation]
        h_BTD = self._norm(f"{block}.ff_norm", x_BTD)
        h_BTF = self._linear(f"{block}.ff.up", h_BTD)
        if self.config.gated:
            h_BTF = graph("Mul", activation(graph, self._linear(f"{block}.ff.gate", h_BTD)), h_BTF)
        else:
            h_BTF = activation(graph, h_BTF)
        return self._linear(f"{block}.ff.down", h_BTF)

    def _linear(self, name: str, x: str) -> str:
        weight = self.state[f"{name}.weight"]
        x = self.graph("MatMul", x, self.graph.weight(f"{name}.weight", weight.T))  # ONNX has [inputs, outputs]
        return self.graph("Add", x, self._weight(name, "bias")) if f"{name}.bias" in self.state else x

    def _norm(self, name: str, x: str) -> str:
        graph, eps = self.graph, self.config.norm_eps
        gain = self._weight(name)
        if f"{name}.bias" in self.state:
            return graph("LayerNormalization", x, gain, self._weight(name, "bias"), axis=-1, epsilon=eps)
        mean_square = graph("ReduceMean", graph("Mul", x, x), graph.integers(-1), keepdims=1)
        size = graph("Sqrt", graph("Add", mean_square, graph.number(eps)))
        return graph("Mul", graph("Div", x, size), gain)

    def _weight(self, name: str, kind: str = "weight") -> str:
        return self.graph.weight(f"{name}.{kind}", self.state[f"{name}.{kind}"])

"""An ONNX graph run by onnxruntime: to see that what was written computes what the model does."""

# B batch, T tokens, V vocabulary

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from storylm.config.model import ModelConfig
from storylm.export.packages import package


class OnnxModel:
    """A file of `export.onnx`; called like a model. With a cache the tokens go in by two halves and what is left.

    Raises:
        SetupError: the package `onnxruntime` is missing.
    """

    def __init__(self, path: Path, config: ModelConfig, threads: int = 1):
        runtime = package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._config = config
        self.inputs = [item.name for item in self._session.get_inputs()]
        self.outputs = [item.name for item in self._session.get_outputs()]

    def __call__(self, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V]; `mask_BT` is 0 where a row is filled up."""
        tokens = tokens_BT.numpy()
        mask = np.ones_like(tokens) if mask_BT is None else mask_BT.numpy()
        if "position_ids" not in self.inputs:
            return torch.from_numpy(self._run({"input_ids": tokens, "attention_mask": mask})["logits"])
        positions = (mask.cumsum(1) - 1).clip(0)
        found, past, half = [], self.empty_cache(len(tokens)), max(1, tokens.shape[1] // 2)
        for start in range(0, tokens.shape[1], half):
            part = slice(start, start + half)
            given = {"input_ids": tokens[:, part], "attention_mask": mask[:, : part.stop]}
            results = self._run({**given, "position_ids": positions[:, part], **past})
            found.append(results.pop("logits"))
            past = {name.replace("present", "past_key_values"): value for name, value in results.items()}
        return torch.from_numpy(np.concatenate(found, axis=1))

    def empty_cache(self, rows: int) -> dict[str, np.ndarray]:
        """What stands before the first token."""
        shape = (rows, self._config.kv_heads, 0, self._config.head_dim)
        return {name: np.zeros(shape, np.float32) for name in self.inputs if name.startswith("past_key_values.")}

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self._session.run(self.outputs, inputs), strict=True))

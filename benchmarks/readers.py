"""Programs that read what `storylm export` writes, each as a function from a folder to logits.

A reader whose package is missing raises ImportError; `READERS` says which ones there are for a format.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from storylm.config.model import ModelConfig
from storylm.export.formats import FORMATS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))


@dataclass(frozen=True)
class Case:
    """A folder that was written: the model's settings, the precision, and the tokens [B, T] to score.

    `node`: a folder with transformers.js in its node_modules, where there is one.
    """

    folder: Path
    config: ModelConfig
    format: str
    precision: str
    tokens_BT: Tensor  # noqa: N815
    node: Path | None = None

    @property
    def file(self) -> Path:
        """The GGUF file."""
        return self.folder / f"model-{self.precision}.gguf"


Read = Callable[[Case], Tensor]


def storylm(case: Case) -> Tensor:
    """Our own reader, that `storylm export` looks with."""
    scores = FORMATS[case.format].read(case.folder, case.config, case.precision)
    rows = [torch.cat([one(tokens_T[None]) for tokens_T in case.tokens_BT]) for one in scores.values()]
    return rows[0]


def transformers(case: Case) -> Tensor:
    return _logits(_transformers().AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32), case)


def transformers_4(case: Case) -> Tensor:
    """Version 4.57, in a process of its own; fp32 weights."""
    from model import transformers4

    if not transformers4.HOME.is_dir():
        raise ImportError("transformers 4.57 is not there: run tests/model/test_transformers4.py once")
    np.save(case.folder / "tokens.npy", case.tokens_BT.numpy())
    (case.folder / "texts.json").write_text("[]")
    transformers4.run(case.folder.parent)
    return torch.from_numpy(np.load(case.folder / "logits.npy"))


def transformer_lens(case: Case) -> Tensor:
    bridge = import_module("transformer_lens.model_bridge").TransformerBridge
    with torch.no_grad():
        return bridge.boot_transformers(str(case.folder))(case.tokens_BT).cpu()


def nnsight(case: Case) -> Tensor:
    lens = import_module("nnsight").LanguageModel(str(case.folder), dispatch=True)
    with torch.no_grad(), lens.trace(case.tokens_BT):
        logits = lens.output.logits.save()
    return logits.cpu()


def transformers_gguf(case: Case) -> Tensor:
    """Of qwen3 and gpt2 it translates only a part of what the file says: the sizes are given to it."""
    settings = {}
    if case.config.family in ("qwen3", "gpt2"):
        from storylm.model.families import to_config_json

        values = to_config_json(case.config)
        settings = {"config": _transformers().AutoConfig.for_model(**values)}
    load = _transformers().AutoModelForCausalLM.from_pretrained
    return _logits(load(case.folder, gguf_file=case.file.name, **settings), case)


def llama_cpp(case: Case) -> Tensor:
    """llama.cpp with an fp32 cache."""
    module = import_module("llama_cpp")
    fp32 = {"type_k": module.GGML_TYPE_F32, "type_v": module.GGML_TYPE_F32}
    llama = module.Llama(str(case.file), n_ctx=64, n_batch=64, n_threads=1, logits_all=True, verbose=False, **fp32)
    rows = []
    for tokens_T in case.tokens_BT:
        llama.reset()
        llama.eval(tokens_T.tolist())
        rows.append(np.array(llama.scores[: len(tokens_T)]))
    llama.close()
    return torch.from_numpy(np.stack(rows))


def numpy_llama(case: Case) -> Tensor:
    """llama2.c's programs in NumPy, which the tests have; in 8 bits they round what flows through the model, too."""
    from model.numpy_llama import NumpyLlama

    rows = []
    for tokens_T in case.tokens_BT:
        reader = NumpyLlama(case.folder / "model.bin")
        rows.append(np.stack([reader.step(int(token), place) for place, token in enumerate(tokens_T)]))
    return torch.from_numpy(np.stack(rows)).float()


def onnxruntime_without_cache(case: Case) -> Tensor:
    return FORMATS["onnx"].read(case.folder, case.config, "f32")["onnx/model_no_cache.onnx"](case.tokens_BT)


def transformers_js(case: Case) -> Tensor:
    """The graph with a cache, as transformers.js runs it in Node."""
    if case.node is None:
        raise ImportError("say where transformers.js is: --node FOLDER")
    script = Path(__file__).with_name("logits.cjs")
    command = ["node", str(script), str(case.node.resolve()), str(case.folder)]
    done = subprocess.run(
        command, input=json.dumps(case.tokens_BT.tolist()), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return torch.tensor(answer["data"]).view(*answer["dims"])


READERS: dict[str, dict[str, Read]] = {
    "hf": {
        "transformers 5": transformers,
        "transformers 4.57": transformers_4,
        "TransformerLens": transformer_lens,
        "nnsight": nnsight,
    },
    "gguf": {"transformers 5": transformers_gguf, "llama.cpp": llama_cpp},
    "llama2c": {"llama2.c in NumPy": numpy_llama},
    "onnx": {"onnxruntime, no cache": onnxruntime_without_cache, "transformers.js": transformers_js},
    "int8": {},
}
"""Beside our own. That of ONNX is onnxruntime, with the cache."""

ONLY = {"transformers 4.57": ("f32",), "TransformerLens": ("f32",), "nnsight": ("f32",)}
"""Readers that are asked about some precisions alone."""


def _transformers() -> Any:
    return import_module("transformers")


def _logits(model: torch.nn.Module, case: Case) -> Tensor:
    with torch.no_grad():
        return model.eval()(case.tokens_BT).logits.float()

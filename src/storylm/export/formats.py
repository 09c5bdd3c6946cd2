"""The formats that a model is handed on in, as data: what each can express, how it is written, read back and used."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from storylm.config.model import ModelConfig
from storylm.export import gguf, llama2c, onnx, onnx_run
from storylm.export.hf import check_hf, check_int8
from storylm.export.llama_cpp import check_gguf
from storylm.model.llama2c import read_llama2c
from storylm.model.store import load, write_model_files
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

Scores = Callable[[Tensor], Tensor]
"""Tokens [1, T] to logits [1, T, V]."""

ROUNDING = {"f32": 1e-4, "f32-v1": 1e-4, "f16": 0.05, "bf16": 0.25, "q8_0": 0.3, "int8": 0.3}
"""How far the logits read back may be from the model's own on average (the root of the mean square), as a share of
their spread. Weights in a wrong place bring it above 1."""


@dataclass(frozen=True)
class Format:
    """One format. A folder is written, whatever it holds.

    precisions: the first is what is taken where none is asked for.
    check: raises `UsageError` for a model that the format cannot express; returns what is worth knowing.
    write: fills the folder.
    read: each file that holds the model's weights, and how it scores tokens, run by a reader for it.
    next: what to type next, for this folder, a precision, and a prompt with the start token that stories begin after.
    card: whether a model card belongs there.
    """

    about: str
    precisions: tuple[str, ...]
    check: Callable[[ModelConfig, Tokenizer | None], list[str]]
    write: Callable[[Transformer, Tokenizer | None, Path, str], None]
    read: Callable[[Path, ModelConfig, str], dict[str, Scores]]
    next: Callable[[Path, str, str], list[str]]
    card: bool = False


def _write_hf(model: Transformer, tokenizer: Tokenizer | None, folder: Path, precision: str) -> None:
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    write_model_files(copy.deepcopy(model).to(dtypes[precision]), tokenizer, folder)


def _write_int8(model: Transformer, tokenizer: Tokenizer | None, folder: Path, precision: str) -> None:
    write_model_files(model, tokenizer, folder, int8=True)


def _read_folder(folder: Path, config: ModelConfig, precision: str) -> dict[str, Scores]:
    return {next(folder.glob("model*.safetensors")).name: load(folder)[0]}


def _write_gguf(model: Transformer, tokenizer: Tokenizer | None, folder: Path, precision: str) -> None:
    assert tokenizer is not None  # `check_gguf`
    gguf.write_gguf(model, tokenizer, folder / _gguf_name(precision), precision)
    (folder / "Modelfile").write_text(
        gguf.modelfile(_gguf_name(precision), model.config, tokenizer), encoding="utf-8", newline="\n"
    )


def _read_gguf(folder: Path, config: ModelConfig, precision: str) -> dict[str, Scores]:
    return {_gguf_name(precision): gguf.read_gguf(folder / _gguf_name(precision), config)}


def _gguf_name(precision: str) -> str:
    return f"model-{precision}.gguf"


def _write_llama2c(model: Transformer, tokenizer: Tokenizer | None, folder: Path, precision: str) -> None:
    llama2c.write_llama2c(model, folder / "model.bin", precision)
    if tokenizer is not None and llama2c.has_form(tokenizer, model.config):
        llama2c.write_tokenizer(tokenizer, model.config, folder / "tokenizer.bin")


def _read_llama2c(folder: Path, config: ModelConfig, precision: str) -> dict[str, Scores]:
    return {"model.bin": read_llama2c(folder / "model.bin")}


def _next_llama2c(out: Path, precision: str, prompt: str) -> list[str]:
    if not (out / "tokenizer.bin").exists():
        return ["a program of your own: llama2.c's have no way to read this tokenizer"]
    programs = {"f32": "run", "int8": "runq"}
    if precision not in programs:
        return ["a program of your own: llama2.c's run reads f32, and its runq int8"]
    return [f'./{programs[precision]} {out}/model.bin -z {out}/tokenizer.bin -t 0.8 -i "Once upon a time"']


def _write_onnx(model: Transformer, tokenizer: Tokenizer | None, folder: Path, precision: str) -> None:
    write_model_files(model, tokenizer, folder)
    (folder / "model.safetensors").unlink()  # the weights are in the graphs
    onnx.write_onnx(model, folder / "onnx" / onnx.WITH_CACHE)
    onnx.write_onnx(model, folder / "onnx" / onnx.WITHOUT_CACHE, cache=False)


def _read_onnx(folder: Path, config: ModelConfig, precision: str) -> dict[str, Scores]:
    names = (onnx.WITH_CACHE, onnx.WITHOUT_CACHE)
    return {f"onnx/{name}": onnx_run.OnnxModel(folder / "onnx" / name, config) for name in names}


FORMATS: dict[str, Format] = {
    "hf": Format(
        "the folder of transformers, vLLM, TransformerLens, lm-eval and fine-tuning tools",
        ("f32", "bf16", "f16"),
        check_hf,
        _write_hf,
        _read_folder,
        lambda out, _, prompt: [
            f'AutoModelForCausalLM.from_pretrained("{out}")   in Python, with transformers; prompts begin "{prompt}"',
            f"vllm serve {out}",
            f"storylm push {out} OWNER/NAME",
        ],
        card=True,
    ),
    "gguf": Format(
        "one file for llama.cpp, Ollama and LM Studio, with the tokenizer in it",
        tuple(reversed(gguf.PRECISIONS)),
        check_gguf,
        _write_gguf,
        _read_gguf,
        lambda out, precision, _: [
            f'llama-completion -m {out}/{_gguf_name(precision)} -no-cnv -p "Once upon a time" -n 256',
            f'ollama create stories -f {out}/Modelfile && ollama run stories "Once upon a time"',
        ],
    ),
    "llama2c": Format(
        "the files of llama2.c, for programs without dependencies",
        tuple(llama2c.VERSIONS),
        llama2c.check_llama2c,
        _write_llama2c,
        _read_llama2c,
        _next_llama2c,
    ),
    "onnx": Format(
        "graphs for onnxruntime on any system, and for transformers.js in browsers",
        ("f32",),
        lambda config, tokenizer: [],
        _write_onnx,
        _read_onnx,
        lambda out, _, prompt: [
            f"await (await pipeline('text-generation', '{out}', {{ dtype: 'fp32' }}))('{prompt}')   in transformers.js",
            f'onnxruntime.InferenceSession("{out}/onnx/{onnx.WITH_CACHE}")   in Python',
        ],
    ),
    "int8": Format(
        "storylm's own folder at a quarter of the size",
        ("int8",),
        check_int8,
        _write_int8,
        _read_folder,
        lambda out, *_: [f'storylm generate {out} --prompt "Once upon a time"'],
    ),
}

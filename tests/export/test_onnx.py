"""ONNX graphs in onnxruntime: our logits, with a cache and without, whatever the batch, its lengths and its padding."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.model_zoo import ENLARGED, LENGTH, ZOO, random_model, random_tokens
from storylm.config.errors import SetupError, UsageError
from storylm.config.model import ModelConfig
from storylm.export import onnx as ours
from storylm.export.onnx import WITH_CACHE, WITHOUT_CACHE, write_onnx
from storylm.export.onnx_run import OnnxModel
from storylm.model.transformer import Transformer

pytest.importorskip("onnxruntime")
WITHIN = {"atol": 1e-5, "rtol": 0.0}


def both(model: Transformer, folder: Path) -> tuple[OnnxModel, OnnxModel]:
    """The graph with a cache and the one without."""
    found = []
    for name in (WITH_CACHE, WITHOUT_CACHE):
        write_onnx(model, folder / name, cache=name == WITH_CACHE)
        found.append(OnnxModel(folder / name, model.config))
    return found[0], found[1]


@pytest.mark.parametrize("scale", [1.0, ENLARGED])
@pytest.mark.parametrize("name", ZOO)
def test_logits_are_ours(name: str, scale: float, tmp_path: Path) -> None:
    model = random_model(ZOO[name], scale)
    for rows in (1, 3):  # neither size is baked in
        tokens = random_tokens(model.config, rows)[:, : LENGTH - rows]
        with torch.no_grad():
            expected = model(tokens)
        for graph in both(model, tmp_path):
            torch.testing.assert_close(graph(tokens), expected, **WITHIN)


@pytest.mark.parametrize("name", ZOO)
def test_token_by_token(name: str, tmp_path: Path) -> None:
    """As a story is told: an empty past at first, then what the graph gave before; pieces of any length."""
    model = random_model(ZOO[name], ENLARGED)
    graph, _ = both(model, tmp_path)
    tokens = random_tokens(model.config)
    past, found, at = graph.empty_cache(2), [], 0
    for length in (5, 1, 1, 9, 1, 16):
        part = tokens[:, at : at + length].numpy()
        at += length
        places = np.arange(at - length, at)[None].repeat(2, 0)
        inputs = {"input_ids": part, "attention_mask": np.ones((2, at), np.int64), "position_ids": places, **past}
        results = graph._run(inputs)
        found.append(results.pop("logits"))
        past = {name.replace("present", "past_key_values"): value for name, value in results.items()}
        shapes = {value.shape for value in past.values()}
        assert shapes == {(2, model.config.kv_heads, at, model.config.head_dim)}
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(np.concatenate(found, 1)), model(tokens), **WITHIN)


@pytest.mark.parametrize("name", ZOO)
def test_padding_at_the_left_changes_nothing(name: str, tmp_path: Path) -> None:
    """Rows of a batch that are filled up score as each does alone."""
    model = random_model(ZOO[name], ENLARGED)
    lengths = (LENGTH, 20, 1)
    tokens, mask = random_tokens(model.config, 3), torch.zeros(3, LENGTH, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, LENGTH - length :] = 1
    for graph in both(model, tmp_path):
        found = graph(tokens, mask)
        assert found.isfinite().all()
        for row, length in enumerate(lengths):
            with torch.no_grad():
                alone = model(tokens[row : row + 1, LENGTH - length :])[0]
            torch.testing.assert_close(found[row, LENGTH - length :], alone, **WITHIN)


def test_names_are_those_that_transformers_js_looks_for(tmp_path: Path) -> None:
    model = random_model(ZOO["llama"])
    graph, without = both(model, tmp_path)
    cache = [f"{layer}.{kind}" for layer in range(3) for kind in ("key", "value")]
    assert graph.inputs == ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{of}" for of in cache)]
    assert graph.outputs == ["logits", *(f"present.{of}" for of in cache)]
    assert (without.inputs, without.outputs) == (["input_ids", "attention_mask"], ["logits"])
    session = graph._session
    assert session.get_inputs()[0].shape == ["batch", "sequence"]
    assert session.get_inputs()[3].shape == ["batch", 2, "past", 8]
    assert {item.type for item in session.get_inputs()[:3]} == {"tensor(int64)"}


def test_the_table_of_a_tied_model_is_in_the_file_once(tmp_path: Path) -> None:
    sizes = {}
    for tied in (True, False):
        model = random_model(ZOO["qwen3"].model_copy(update={"tied": tied}))
        write_onnx(model, tmp_path / "model.onnx")
        sizes[tied] = (tmp_path / "model.onnx").stat().st_size
    assert sizes[False] - sizes[True] == pytest.approx(4 * 107 * 36, abs=200)


def test_every_activation(tmp_path: Path) -> None:
    for gated in (False, True):
        for activation in ours.ACTIVATIONS:
            model = random_model(ModelConfig(**{**ZOO["llama"].model_dump(), "activation": activation, "gated": gated}))
            tokens = random_tokens(model.config)
            with torch.no_grad():
                torch.testing.assert_close(both(model, tmp_path)[1](tokens), model(tokens), **WITHIN)


def test_without_positions(tmp_path: Path) -> None:
    model = random_model(ModelConfig(**{**ZOO["llama"].model_dump(), "positions": "none"}), ENLARGED)
    tokens = random_tokens(model.config)
    with torch.no_grad():
        for graph in both(model, tmp_path):
            torch.testing.assert_close(graph(tokens), model(tokens), **WITHIN)


def test_what_is_too_large_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_LARGEST_FILE", 1000)
    with pytest.raises(UsageError, match="an ONNX file at most 2: export to hf or gguf"):
        write_onnx(random_model(ZOO["llama"]), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SetupError, match=r"the package onnx: pip install 'storylm\[export\]'"):
        write_onnx(random_model(ZOO["llama"]), tmp_path / "model.onnx")
    with pytest.raises(SetupError, match="onnxruntime"):
        OnnxModel(tmp_path / "model.onnx", ZOO["llama"])
    assert not list(tmp_path.iterdir())

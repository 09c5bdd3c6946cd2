"""The matrix of exports, small; and that the committed one shows what it is said to show."""

import json
from pathlib import Path

import export_matrix
import pytest
from readers import READERS

from storylm.config.model import FAMILIES
from storylm.export.formats import FORMATS

pytest.importorskip("gguf")
pytest.importorskip("onnxruntime")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "exports.json"


def test_formats_families_and_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "exports.json"
    chosen = ["--formats", "llama2c", "onnx", "int8", "--models", "llama", "gpt_neo"]
    assert export_matrix.main([*chosen, "--output", str(output)]) == 0
    rows = json.loads(output.read_text())["results"]
    found = {(row["format"], row["precision"], row["model"]): row for row in rows}
    assert len(found) == len(rows) == 2 * (3 + 1 + 1)
    llama = found["llama2c", "f32", "llama"]
    assert llama["readers"]["storylm"] == 0
    assert llama["readers"]["llama2.c in NumPy"] < 1e-4
    assert found["llama2c", "f32-v1", "llama"]["readers"]["llama2.c in NumPy"] < 1e-4
    assert "not gpt_neo" in found["llama2c", "f32", "gpt_neo"]["refused"]
    assert found["onnx", "f32", "gpt_neo"]["readers"].keys() == {"storylm", "onnxruntime, no cache"}
    assert 0.01 < found["int8", "int8", "llama"]["readers"]["storylm"] < found["int8", "int8", "llama"]["spread"]
    assert "transformers.js is left out" in capsys.readouterr().err


def test_the_committed_matrix_is_whole_and_near() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["results"]
    kinds = {(name, precision) for name, row in FORMATS.items() for precision in row.precisions}
    assert {(row["format"], row["precision"]) for row in rows} == kinds
    assert {row["model"].partition(",")[0] for row in rows} == set(FAMILIES)
    read = [row for row in rows if "refused" not in row]
    assert {(row["format"], reader) for row in read for reader in row["readers"] if reader != "storylm"} == {
        (name, reader) for name, readers in READERS.items() for reader in readers
    }
    for row in read:
        for reader, difference in row["readers"].items():
            rounded = row["precision"] not in ("f32", "f32-v1")
            gelu = reader == "llama.cpp" and row["model"] == "gpt2"
            if not rounded:
                assert difference < (5e-3 if gelu else 5e-5), (row, reader)
            elif reader == "storylm":
                assert difference < row["spread"], row
            elif reader not in ("llama.cpp", "llama2.c in NumPy"):  # which round on the way
                assert difference < 5e-5, (row, reader)
    refused = {(row["format"], row["model"]) for row in rows if "refused" in row}
    assert refused == {
        ("gguf", "mistral, window"),
        ("gguf", "gpt_neo"),
        *(("llama2c", model) for model in ("mistral, window", "qwen3", "gpt2", "gpt_neo")),
    }

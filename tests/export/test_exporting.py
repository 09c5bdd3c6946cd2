"""Every format from end to end: written, read back, compared; and whatever is wrong leaves what was there."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import storylm
from export.conftest import EXPRESSIBLE, config
from model.model_zoo import ENLARGED, random_model, same_weights
from storylm.config.errors import CheckpointError, UsageError
from storylm.export import exporting
from storylm.export.exporting import export, told
from storylm.export.formats import FORMATS, ROUNDING
from storylm.model.store import save
from storylm.text.tokenizer import Tokenizer

pytest.importorskip("gguf")
pytest.importorskip("onnxruntime")
LLAMA = config("llama", norm_eps=1e-5, kv_heads=2)
EVERY = [(name, precision) for name, row in FORMATS.items() for precision in row.precisions]


@pytest.mark.parametrize(("format", "precision"), EVERY)
def test_every_format_in_every_precision(format: str, precision: str, own: Tokenizer, tmp_path: Path) -> None:
    model = random_model(LLAMA, ENLARGED)
    done = export(model, own, format, tmp_path / "out", precision)
    assert done.folder == tmp_path / "out"
    assert done.sizes == {
        path.relative_to(done.folder).as_posix(): path.stat().st_size
        for path in done.folder.rglob("*")
        if path.is_file()
    }
    assert done.comparisons.keys() <= done.sizes.keys()
    assert done.comparisons
    for found in done.comparisons.values():
        exact = precision.startswith("f32")
        assert (found.difference < 2e-5) == exact
        assert (found.agreement == 1.0) or not exact
        assert 1 < found.spread < 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert done.next


def test_the_first_precision_is_the_default(own: Tokenizer, tmp_path: Path) -> None:
    for format, expected in {"hf": "f32", "gguf": "q8_0", "llama2c": "f32", "onnx": "f32", "int8": "int8"}.items():
        assert export(random_model(LLAMA), own, format, tmp_path / format).precision == expected
    assert ROUNDING.keys() == {precision for row in FORMATS.values() for precision in row.precisions}


def test_the_files_of_each_format(own: Tokenizer, shared: Path, tmp_path: Path) -> None:
    words = {"tokenizer.json", "tokenizer_config.json"}
    folder = {"config.json", "generation_config.json", *words}
    expected = {
        "hf": {"README.md", "model.safetensors", *folder},
        "int8": {"model.int8.safetensors", *folder},
        "gguf": {"model-q8_0.gguf", "Modelfile"},
        "llama2c": {"model.bin"},
        "onnx": {"onnx/model.onnx", "onnx/model_no_cache.onnx", *folder},
    }
    for format, files in expected.items():
        assert export(random_model(LLAMA), own, format, tmp_path / format).sizes.keys() == files
    tok512 = Tokenizer.load(shared / "reference" / "stories260K" / "tok512.model")
    model = random_model(config("llama", norm_eps=1e-5, vocab_size=512))
    done = export(model, tok512, "llama2c", tmp_path / "with")
    assert done.sizes.keys() == {"model.bin", "tokenizer.bin"}
    assert "./run " in done.next[0]
    assert "./runq " in export(model, tok512, "llama2c", tmp_path / "with", "int8").next[0]


def test_without_a_tokenizer(tmp_path: Path) -> None:
    for format in ("hf", "int8", "onnx", "llama2c"):
        assert export(random_model(LLAMA), None, format, tmp_path / format).comparisons
    with pytest.raises(UsageError, match="holds its tokenizer, and the model has none"):
        export(random_model(LLAMA), None, "gguf", tmp_path / "gguf")


def test_an_export_is_replaced_and_nothing_else(own: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in (1, 2):
        model = random_model(LLAMA, seed=seed)
        export(model, own, "hf", out)
        assert same_weights(storylm.load(out)[0], model)
    kept = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError, match=r"holds (README\.md|model\.safetensors), which exporting there would delete"):
        export(random_model(LLAMA), own, "int8", out)
    (out / "README.md").write_text("# Mine\n")
    with pytest.raises(UsageError, match=r"holds README\.md"):
        export(random_model(LLAMA), own, "hf", out)
    assert {path: path.read_bytes() for path in out.iterdir()} == {**kept, out / "README.md": b"# Mine\n"}
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file: name a folder"):
        export(random_model(LLAMA), own, "hf", tmp_path / "file")


def test_into_the_folder_one_is_in(own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(random_model(LLAMA), own, "int8", ".")
    assert (tmp_path / "here" / "config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def wrong(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The hf format, of which what is read back is changed."""

    def read(folder: Path, config: Any, precision: str) -> Any:
        model, _ = storylm.load(folder)
        return {"model.safetensors": lambda tokens: change(model(tokens))}

    return dataclasses.replace(FORMATS["hf"], read=read)


@pytest.mark.parametrize(
    "change", [lambda logits: logits + 0.01, lambda logits: logits * torch.nan, lambda logits: logits.roll(1, -1)]
)
def test_what_reads_back_otherwise_is_not_kept(change: Any, own: Tokenizer, tmp_path: Path, monkeypatch: Any) -> None:
    out, first = tmp_path / "out", random_model(LLAMA, seed=1)
    export(first, own, "hf", out)
    monkeypatch.setitem(exporting.FORMATS, "hf", wrong(change))
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors does not hold the model: its logits differ by .* nothing is kept"
    ):
        export(random_model(LLAMA), own, "hf", out)
    assert same_weights(storylm.load(out)[0], first)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_what_was_there(own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for format in FORMATS:
        export(random_model(LLAMA), own, format, tmp_path / format)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    for format in FORMATS:
        with pytest.raises(OSError, match="disk full"):
            export(random_model(LLAMA, seed=1), own, format, tmp_path / format)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_not_known(own: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format 'ggml' is not known: choose one of hf, gguf, llama2c, onnx, int8"):
        export(random_model(LLAMA), own, "ggml", tmp_path / "out")
    with pytest.raises(UsageError, match="onnx has no precision 'f16': choose one of f32"):
        export(random_model(LLAMA), own, "onnx", tmp_path / "out", "f16")
    with pytest.raises(CheckpointError, match="300 tokens but the model only 97"):
        export(random_model(config("llama", vocab_size=97)), own, "hf", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_model_is_left_as_it_was(own: Tokenizer, tmp_path: Path) -> None:
    model = random_model(LLAMA).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for format, precision in (("hf", "bf16"), ("gguf", "f16"), ("int8", None)):
        export(model, own, format, tmp_path / format, precision)
    assert model.training
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_stories_fit_the_context(own: Tokenizer) -> None:
    lengths = [tokens.shape for tokens in told(own, 320, 40)]
    assert lengths == [(1, 40)] * 4
    assert all(tokens[0, 0] == own.start_id for tokens in told(own, 320, 40))
    assert [tokens.shape for tokens in told(None, 97, 30)] == [(1, 30)] * 4


def test_what_vllm_will_not_have_is_told(own: Tokenizer, tmp_path: Path) -> None:
    good = config("qwen3", width=128, heads=4, head_dim=32)
    assert export(random_model(good), own, "hf", tmp_path / "good").notes == []
    notes = export(random_model(config("gpt_neo", vocab_size=310)), own, "hf", tmp_path / "odd").notes
    assert len(notes) == 3
    assert "vLLM has no class for gpt_neo" in notes[0]
    assert "heads of width 16: it takes 32, 64, 80, 96, 112, 128, 160, 192, 224, 256" in notes[1]
    assert "a multiple of 64, not 310: train with model.vocab_size=320" in notes[2]


def test_transformers_loads_the_exported_folder_in_bf16(own: Tokenizer, tmp_path: Path) -> None:
    import transformers

    save(random_model(EXPRESSIBLE["qwen3"]), own, tmp_path / "model")
    export(storylm.load(tmp_path / "model")[0], own, "hf", tmp_path / "out", "bf16")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.dtype == torch.bfloat16

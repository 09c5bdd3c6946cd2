"""llama2.c's files: byte for byte where there is an original, and read by a NumPy of the same program."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from export.conftest import config
from model.model_zoo import ENLARGED, random_model, random_tokens, same_weights
from model.numpy_llama import NumpyLlama
from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.export.llama2c import check_llama2c, group_size, write_llama2c, write_tokenizer
from storylm.model.llama2c import read_llama2c
from storylm.text.tokenizer import Tokenizer

MODELS = {
    "tied": config("llama", kv_heads=2, norm_eps=1e-5, tied=True),
    "untied": config("llama", kv_heads=3, norm_eps=1e-5, rope_layout="interleaved"),
    "mistral": config("mistral", norm_eps=1e-5, windows=(40,)),
}


def test_the_original_comes_out_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    """The tables of angles too, which llama2.c's programs pass over."""
    folder = shared / "reference" / "stories260K"
    model = read_llama2c(folder / "stories260K.bin")
    write_llama2c(model, tmp_path / "model.bin", "f32")
    assert (tmp_path / "model.bin").read_bytes() == (folder / "stories260K.bin").read_bytes()
    write_tokenizer(Tokenizer.load(folder / "tok512.model"), model.config, tmp_path / "tokenizer.bin")
    assert (tmp_path / "tokenizer.bin").read_bytes() == (folder / "tok512.bin").read_bytes()


@pytest.mark.parametrize("precision", ["f32", "f32-v1"])
@pytest.mark.parametrize("name", MODELS)
def test_fp32_is_read_back_exactly(name: str, precision: str, tmp_path: Path) -> None:
    model = random_model(MODELS[name], ENLARGED)
    write_llama2c(model, tmp_path / "model.bin", precision)
    again = read_llama2c(tmp_path / "model.bin")
    with torch.no_grad():
        torch.testing.assert_close(again(random_tokens(model.config)), model(random_tokens(model.config)))
    if model.config.rope_layout == "half":  # else queries and keys come back in the other order
        assert same_weights(again, model)


@pytest.mark.parametrize("precision", ["f32", "f32-v1", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_a_reader_that_shares_nothing_with_us_computes_the_same(name: str, precision: str, tmp_path: Path) -> None:
    model = random_model(MODELS[name], ENLARGED)
    write_llama2c(model, tmp_path / "model.bin", precision)
    if precision == "int8":  # held against what is in the file
        model = read_llama2c(tmp_path / "model.bin")
    ids = random_tokens(model.config)[0]
    with torch.no_grad():
        ours = model(ids[None])[0].double()
    theirs = read_by_numpy(tmp_path / "model.bin", ids, rounding=False)
    torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-5)


def read_by_numpy(path: Path, ids: torch.Tensor, rounding: bool) -> torch.Tensor:
    reader = NumpyLlama(path, rounding)
    return torch.from_numpy(np.stack([reader.step(int(token), place) for place, token in enumerate(ids)]))


@pytest.mark.parametrize("name", MODELS)
def test_8_bits_are_near(name: str, tmp_path: Path) -> None:
    model = random_model(MODELS[name])
    write_llama2c(model, tmp_path / "model.bin", "int8")
    again = read_llama2c(tmp_path / "model.bin")
    assert (tmp_path / "model.bin").stat().st_size < 0.3 * 4 * sum(weight.numel() for weight in model.parameters())
    for key, ours in model.state_dict().items():
        theirs = again.state_dict()[key]
        if ours.ndim == 1:
            assert theirs.equal(ours), key
        elif not key.endswith(("attention.q.weight", "attention.k.weight")):
            groups, read = ours.reshape(-1, 32), theirs.reshape(-1, 32)
            assert ((groups - read).abs() <= 0.5001 * groups.abs().amax(1, keepdim=True) / 127).all(), key
            assert (groups.abs().amax(1) - read.abs().amax(1)).abs().max() < 1e-6, key
    with torch.no_grad():
        ours, theirs = (one(random_tokens(model.config)) for one in (model, again))
    assert 0 < (ours - theirs).abs().max() < 0.15 * ours.std()


@pytest.mark.parametrize(("precision", "version", "group"), [("f32-v1", 1, 0), ("int8", 2, 32)])
def test_versions_are_laid_out_as_llama2_c_has_them(precision: str, version: int, group: int, tmp_path: Path) -> None:
    """By export.py: 256 bytes of header; fp32 norms; then each matrix, layer by layer: in 8 bits, scales behind it."""
    settings = config("llama", kv_heads=2, norm_eps=1e-5, layers=2)
    model = random_model(settings)
    write_llama2c(model, tmp_path / "model.bin", precision)
    data = (tmp_path / "model.bin").read_bytes()
    assert data[:4] == b"24ka"
    D, F, L, H, G, V, T = 96, 160, 2, 6, 2, 320, 40
    assert struct.unpack_from("<i7iBi", data, 4) == (version, D, F, L, H, G, V, T, 0, group)
    assert not any(data[41:256])
    norms = np.frombuffer(data, "<f4", (2 * L + 1) * D, 256)
    state = model.state_dict()
    np.testing.assert_array_equal(norms[D : 2 * D], state["blocks.1.attention_norm.weight"])
    np.testing.assert_array_equal(norms[2 * D : 3 * D], state["blocks.0.ff_norm.weight"])
    np.testing.assert_array_equal(norms[4 * D :], state["norm.weight"])
    at = 256 + norms.nbytes

    def next_matrix(rows: int, columns: int) -> np.ndarray:
        nonlocal at
        if not group:
            numbers = np.frombuffer(data, "<f4", rows * columns, at)
            at += numbers.nbytes
            return numbers.reshape(rows, columns)
        numbers = np.frombuffer(data, np.int8, rows * columns, at).reshape(-1, 32)
        scales = np.frombuffer(data, "<f4", len(numbers), at + numbers.size)
        at += numbers.size + scales.nbytes
        return (numbers * scales[:, None]).reshape(rows, columns)

    key_width = D // H * G
    shapes = {"q": (D, D), "k": (key_width, D), "v": (key_width, D), "out": (D, D)}
    places = [("embedding", (V, D))]
    places += [(f"blocks.{layer}.attention.{name}", shape) for name, shape in shapes.items() for layer in range(L)]
    for name, shape in {"gate": (F, D), "down": (D, F), "up": (F, D)}.items():
        places += [(f"blocks.{layer}.ff.{name}", shape) for layer in range(L)]
    for name, shape in [*places, ("head", (V, D))]:
        found = next_matrix(*shape)
        expected = state[f"{name}.weight"]
        if name.endswith((".q", ".k")):  # theirs has the two features of a plane side by side
            expected = expected.view(-1, 2, D // H // 2, D).transpose(1, 2).reshape(shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 / 127 * 8 if group else 0)
    assert at == len(data)


def test_groups_divide_every_row() -> None:
    assert group_size(config("llama", width=192, ff_width=128)) == 64
    assert group_size(config("llama", width=64, heads=4, ff_width=172)) == 4
    with pytest.raises(UsageError, match="not 96 and 170: choose --precision f32"):
        group_size(config("llama", ff_width=170))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (config("qwen3", norm_eps=1e-5), "knows llamas alone, not qwen3"),
        (config("gpt2"), "knows llamas alone, not gpt2"),
        (config("llama"), "model.norm_eps=1e-06"),
        (config("llama", norm_eps=1e-5, head_dim=8), "model.head_dim=8"),
        (config("llama", norm_eps=1e-5, rope_theta=5e5), "model.rope_theta=500000.0"),
        (config("llama", norm_eps=1e-5, ff_bias=True), "model.ff_bias=True"),
        (config("llama", norm_eps=1e-5, activation="relu"), "model.activation=relu"),
        (config("mistral", norm_eps=1e-5, windows=(None, 39)), r"model.windows=\[None, 39\]"),
        (config("llama", norm_eps=1e-5, attention_scale=0.5), "model.attention_scale=0.5"),
    ],
)
def test_what_the_header_cannot_say_is_refused(settings: ModelConfig, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{words}.*export to gguf, hf or onnx"):
        write_llama2c(random_model(settings), tmp_path / "model.bin")
    assert not list(tmp_path.iterdir())


def test_settings_of_training_do_not_matter() -> None:
    settings = config("llama", norm_eps=1e-5, dropout=0.2, init_std=0.1, init_outputs="zero", attention_scale=0.25)
    assert settings.head_dim == 16  # whose usual scale it is
    (note,) = check_llama2c(settings, None)
    assert "no tokenizer.bin" in note


def test_other_tokenizers_and_precisions_are_refused(own: Tokenizer, tmp_path: Path) -> None:
    model = random_model(MODELS["tied"])
    with pytest.raises(UsageError, match="cannot cut text as GPT-2 does"):
        write_tokenizer(own, model.config, tmp_path / "tokenizer.bin")
    with pytest.raises(UsageError, match=r"precision 'f16' is not known to llama2\.c: choose one of f32, f32-v1, int8"):
        write_llama2c(model, tmp_path / "model.bin", "f16")
    assert not list(tmp_path.iterdir())


def test_rows_beyond_the_vocabulary_have_a_text(shared: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(shared / "reference" / "stories260K" / "tok512.model")
    write_tokenizer(tokenizer, config("llama", vocab_size=515), tmp_path / "tokenizer.bin")
    data, at, texts = (tmp_path / "tokenizer.bin").read_bytes(), 4, []
    while at < len(data):
        _, length = struct.unpack_from("<fi", data, at)
        texts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    assert texts[512:] == [b"<unused 512>", b"<unused 513>", b"<unused 514>"]  # run.c cannot read an empty one
    assert struct.unpack_from("<I", data) == (12,)

"""llama2.c's models: the same story word for word, the same logits in transformers, damage refused."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import storylm
from model.numpy_llama import NumpyLlama, read_pieces, tell
from storylm.config.errors import CheckpointError
from storylm.config.model import ModelConfig
from storylm.model.llama2c import read_llama2c
from storylm.model.transformer import Transformer

OPENING = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball."
)
TOKENS = 200


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "reference" / "stories260K"


@pytest.fixture(scope="module")
def converted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "stories260K"
    storylm.save(read_llama2c(folder / "stories260K.bin"), storylm.Tokenizer.load(folder / "tok512.model"), out)
    return out


def test_the_greedy_story_word_for_word(folder: Path, converted: Path) -> None:
    ids = NumpyLlama(folder / "stories260K.bin").greedy(TOKENS)
    expected = tell(read_pieces(folder / "tok512.bin"), ids)
    assert expected.startswith(OPENING)
    model, tokenizer = storylm.load(converted)
    assert tokenizer is not None
    assert tokenizer.decode(ids) == expected
    assert storylm.generate(model, tokenizer, "", max_new_tokens=TOKENS, temperature=0) == [expected]


def test_logits_equal_numpy_and_transformers(folder: Path, converted: Path) -> None:
    import transformers

    model, tokenizer = storylm.load(converted)
    assert tokenizer is not None
    assert model.config.rope_layout == "half"
    ids = [tokenizer.start_id, *tokenizer.encode(OPENING)]
    reference = NumpyLlama(folder / "stories260K.bin")
    expected = np.stack([reference.step(token, position) for position, token in enumerate(ids)])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(converted)
    with torch.no_grad():
        for logits in (model(torch.tensor([ids]))[0], theirs(torch.tensor([ids])).logits[0]):
            torch.testing.assert_close(logits.double(), torch.from_numpy(expected), atol=5e-5, rtol=1e-5)
    reader = transformers.AutoTokenizer.from_pretrained(converted)
    assert reader(OPENING, add_special_tokens=False)["input_ids"] == ids[1:]
    assert reader.decode(ids[1:]) == OPENING


def write_bin(path: Path, version: int, tied: bool) -> dict[str, Any]:
    """A file as llama2.c's export.py lays it out, every weight another number; returns the weights by its names."""
    V, D, F, L, H, G, T = 40, 24, 20, 2, 6, 3, 16
    names = {
        "tok": (V, D),
        "norm1": (L, D),
        "norm2": (L, D),
        "wq": (L, D, D),
        "wk": (L, G * D // H, D),
        "wv": (L, G * D // H, D),
        "wo": (L, D, D),
        "w1": (L, F, D),
        "w2": (L, D, F),
        "w3": (L, F, D),
        "norm": (D,),
        "angles": (T, D // H),
        "head": (V, D),
    }
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype("<f4") for name, shape in names.items()}
    if version == 0:
        order = ["tok", "norm1", "wq", "wk", "wv", "wo", "norm2", "w1", "w2", "w3", "norm", "angles"]
        header = struct.pack("<7i", D, F, L, H, G, V if tied else -V, T)
    else:
        order = ["norm1", "norm2", "norm", "tok", "wq", "wk", "wv", "wo", "w1", "w2", "w3"]
        header = struct.pack("<4si7iB", b"24ka", version, D, F, L, H, G, V, T, tied).ljust(256, b"\0")
    order += [] if tied else ["head"]
    path.write_bytes(header + b"".join(weights[name].tobytes() for name in order))
    return weights


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1])
def test_every_version_puts_every_weight_in_its_place(version: int, tied: bool, tmp_path: Path) -> None:
    weights = write_bin(tmp_path / "model.bin", version, tied)
    model = read_llama2c(tmp_path / "model.bin")
    assert (model.head is None) == tied
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    np.testing.assert_array_equal(state["embedding.weight"], weights["tok"])
    np.testing.assert_array_equal(state["norm.weight"], weights["norm"])
    places = {
        "attention_norm": "norm1",
        "ff_norm": "norm2",
        "attention.v": "wv",
        "attention.out": "wo",
        "ff.gate": "w1",
        "ff.down": "w2",
        "ff.up": "w3",
    }
    for layer in range(2):
        for ours, theirs in places.items():
            np.testing.assert_array_equal(state[f"blocks.{layer}.{ours}.weight"], weights[theirs][layer])
    if not tied:
        np.testing.assert_array_equal(state["head.weight"], weights["head"])
    # Queries and keys come in the other layout: as a model of the file's own layout they are left as they are.
    own = Transformer(model.config.model_copy(update={"rope_layout": "interleaved"})).eval()
    for layer in range(2):
        for name in ("q", "k"):
            state[f"blocks.{layer}.attention.{name}.weight"] = weights[f"w{name}"][layer]
    own.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in state.items()})
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), own(tokens), atol=1e-4, rtol=1e-4)


def test_the_two_versions_are_one_model(tmp_path: Path) -> None:
    for version in (0, 1):
        write_bin(tmp_path / f"{version}.bin", version, tied=True)
    first, second = (read_llama2c(tmp_path / f"{version}.bin") for version in (0, 1))
    assert first.config == second.config == ModelConfig(**first.config.model_dump())
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name


def test_reading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    write_bin(tmp_path / "model.bin", 0, tied=True)
    before = torch.get_rng_state()
    read_llama2c(tmp_path / "model.bin")
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "cut short"),
        (lambda data: data + b"\0\0\0\0", "cut short"),
        (lambda data: data[:100], "100 bytes"),
        (lambda data: b"", "0 bytes"),
        (lambda data: b"PK\x03\x04" + data[4:], "header makes no sense"),
        (lambda data: b"\xff" * len(data), "header makes no sense"),
        (lambda data: data[:12] + struct.pack("<2i", 5, 3) + data[20:], "header makes no sense"),
        (lambda data: struct.pack("<Ii", 0x616B3432, 3) + data[8:], "version 3"),
        (lambda data: struct.pack("<Ii7iBi", 0x616B3432, 2, 24, 20, 2, 6, 3, 40, 16, 1, 0) + data, "makes no sense"),
        (lambda data: struct.pack("<Ii7iBi", 0x616B3432, 2, 24, 20, 2, 6, 3, 40, 16, 1, 4) + data, "cut short"),
        (lambda data: struct.pack("<Ii7iBi", 0x616B3432, 2, 24, 20, 2, 6, 3, 40, 16, 1, 7) + data, "cut short"),
    ],
)
def test_damage_is_told_in_one_line(damage: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_bin(path, 0, tied=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_llama2c(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere\.bin"):
        read_llama2c(tmp_path / "nowhere.bin")

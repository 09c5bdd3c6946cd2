"""Model folders in 8 bits: small, nearly as good, the same integers again, and nobody else takes them for weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import storylm
from model.model_zoo import ZOO, random_model, random_tokens, same_weights
from storylm.config.errors import CheckpointError
from storylm.model.llama2c import read_llama2c
from storylm.model.quantised import INT8_WEIGHTS, quantised
from storylm.model.store import load, save
from storylm.model.tensor_names import NAMES
from storylm.text.tokenizer import Tokenizer

COST = 0.002  # bits per byte that 8 bits may cost
SIZE = 0.28  # of the size in fp32: a quarter, scales, norms and headers


@pytest.mark.parametrize("name", ZOO)
def test_weights_come_back_within_half_a_step_of_their_own_channel(name: str, tmp_path: Path) -> None:
    model = random_model(ZOO[name], 8.0)
    with torch.no_grad():
        model.blocks[0].ff.up.weight[3] *= 100  # a channel that must not spoil the others
    save(model, None, tmp_path / "small", int8=True)
    again, _ = load(tmp_path / "small")
    assert again.config == model.config
    for (key, ours), theirs in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        if ours.ndim == 1:
            assert theirs.equal(ours), key
        else:
            step = ours.abs().amax(1, keepdim=True) / 127
            assert ((theirs - ours).abs() <= 0.5001 * step).all(), key
            assert not theirs.equal(ours), key
            assert (theirs.abs().amax(1) - ours.abs().amax(1)).abs().max() < 1e-5, key  # the largest becomes 127


@pytest.mark.parametrize("name", ZOO)
def test_quantising_again_gives_the_same_integers(name: str, tmp_path: Path) -> None:
    save(random_model(ZOO[name], 8.0), None, tmp_path / "once", int8=True)
    save(load(tmp_path / "once")[0], None, tmp_path / "twice", int8=True)
    once, twice = (load_file(tmp_path / folder / INT8_WEIGHTS) for folder in ("once", "twice"))
    assert once.keys() == twice.keys()
    integers = [key for key, tensor in once.items() if tensor.dtype == torch.int8]
    assert {f"{key}_scale" for key in integers} == {key for key in once if key.endswith("_scale")}
    assert all(once[key].equal(twice[key]) and once[key].abs().max() == 127 for key in integers)


def test_a_channel_of_zeros_stays_zero() -> None:
    found = quantised({"a.weight": torch.tensor([[0.0, 0.0], [1.0, -0.5]])}, NAMES["llama"])
    assert found["a.weight"].tolist() == [[0, 0], [127, -64]]
    assert found["a.weight_scale"].isfinite().all()


def test_what_it_costs_and_saves(shared: Path, valid_stories: list[str], tmp_path: Path) -> None:
    folder = shared / "reference" / "stories260K"
    model, tokenizer = read_llama2c(folder / "stories260K.bin"), Tokenizer.load(folder / "tok512.model")
    for name, int8 in (("fp32", False), ("int8", True)):
        save(model, tokenizer, tmp_path / name, int8=int8)
    sizes = [(tmp_path / path).stat().st_size for path in ("fp32/model.safetensors", f"int8/{INT8_WEIGHTS}")]
    assert sizes[1] < SIZE * sizes[0]
    rounded, words = load(tmp_path / "int8")
    assert words is not None
    some = valid_stories[:20]
    before, after = (storylm.evaluate(one, tokenizer, some).bits_per_byte for one in (model, rounded))
    assert after != before
    assert after < before + COST


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_transformers_refuses_it(name: str, tmp_path: Path) -> None:
    import transformers

    save(random_model(ZOO[name]), None, tmp_path, int8=True)
    with pytest.raises(ValueError, match="storylm_int8"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    kind = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[name]
    with pytest.raises(OSError, match=r"no file named .*model\.safetensors"):
        getattr(transformers, kind).from_pretrained(tmp_path)


def test_saving_in_full_replaces_it(tmp_path: Path) -> None:
    model = random_model(ZOO["gpt2"])
    save(model, None, tmp_path / "model", int8=True)
    save(model, None, tmp_path / "model")
    assert same_weights(load(tmp_path / "model")[0], model)
    assert not (tmp_path / "model" / INT8_WEIGHTS).exists()


def test_scores_are_near(tmp_path: Path) -> None:
    model = random_model(ZOO["qwen3-odd"], 8.0)
    save(model, None, tmp_path, int8=True)
    tokens = random_tokens(model.config)
    with torch.no_grad():
        ours, theirs = model(tokens), load(tmp_path)[0](tokens)
    assert (ours - theirs).abs().max() < 0.25 * ours.std()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.pop("transformer.wte.weight_scale"), "it lacks transformer.wte.weight_scale"),
        (lambda file: file.pop("transformer.wte.weight"), "it lacks transformer.wte.weight$"),
        (lambda file: file.update({"transformer.wte.weight_scale": torch.ones(24, 1)}), r"scales \[24, 1\]"),
        (lambda file: file.update({"transformer.wte.weight": torch.ones(97, 24)}), r"of torch.float32, \[97, 24\]"),
        (lambda file: file.update({"transformer.ln_f.weight_scale": torch.ones(24, 1)}), r"ln_f\.weight"),
    ],
)
def test_damage_is_told_in_one_line(change: Any, words: str, tmp_path: Path) -> None:
    save(random_model(ZOO["gpt2"]), None, tmp_path, int8=True)
    file = load_file(tmp_path / INT8_WEIGHTS)
    change(file)
    save_file(file, tmp_path / INT8_WEIGHTS)
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path)

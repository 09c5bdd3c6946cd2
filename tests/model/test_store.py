"""Model folders: exact round trips, and one clear line for whatever is wrong with one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.model_zoo import ZOO, random_model, random_tokens, same_weights, tokenizer_model
from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.config.model import ModelConfig
from storylm.model.fingerprint import fingerprint
from storylm.model.store import load, save, write_model_files
from storylm.text.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
SMALL = ModelConfig(family="llama", vocab_size=257, context=64, layers=1, width=24, heads=3)


@pytest.mark.parametrize("name", ZOO)
def test_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    model = random_model(ZOO[name])
    save(model, None, tmp_path / "model")
    again, tokenizer = load(str(tmp_path / "model"))
    assert tokenizer is None
    assert again.config == model.config
    assert same_weights(again, model)
    assert not again.training
    with torch.no_grad():
        assert again(random_tokens(model.config)).equal(model(random_tokens(model.config)))


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    model = random_model(ZOO["gpt2"])
    save(model, None, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "generation_config.json", WEIGHTS}
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    with safe_open(tmp_path / "model" / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        names = set(file.keys())
    assert "transformer.h.0.attn.c_attn.weight" in names
    assert "lm_head.weight" not in names  # tied: stored once


def test_a_tokenizer_goes_with_its_model(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load("bytes")
    save(tokenizer_model("qwen3", tokenizer), tokenizer, tmp_path)
    _, again = load(tmp_path)
    assert again is not None
    assert again.fingerprint == tokenizer.fingerprint
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == tokenizer.end_id


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_come_in_as_fp32_and_go_out_as_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model(ZOO["llama"]).to(dtype)
    save(model, None, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {dtype}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    again, _ = load(tmp_path)
    assert same_weights(again, model.float())


def test_reading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    save(random_model(ZOO["gpt2"]), None, tmp_path)
    before = torch.get_rng_state()
    load(tmp_path)
    assert torch.get_rng_state().equal(before)


def test_buffers_and_copies_that_others_save_are_passed_over(tmp_path: Path) -> None:
    for name, extra in {
        "gpt2": ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"],
        "gpt_neo": ["transformer.h.1.attn.attention.bias", "transformer.h.1.attn.attention.masked_bias"],
        "llama": ["model.layers.0.self_attn.rotary_emb.inv_freq"],
    }.items():
        model, folder = random_model(ZOO[name]), tmp_path / name
        save(model, None, folder)
        weights = load_file(folder / WEIGHTS) | {key: torch.ones(3) for key in extra}
        if model.config.tied:
            weights["lm_head.weight"] = model.head_weight.detach().clone()
        save_file(weights, folder / WEIGHTS)
        assert same_weights(load(folder)[0], model)


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    models = {name: random_model(ZOO["gpt2"], seed=seed) for seed, name in enumerate(("last", "best"))}
    run = tmp_path / "run"
    for name, model in models.items():
        (run / "checkpoints" / name).mkdir(parents=True)
        write_model_files(model, None, run / "checkpoints" / name)
        assert same_weights(load(run)[0], model)
        assert same_weights(load(run / "checkpoints")[0], model)
    assert same_weights(load(run / "checkpoints" / "last")[0], models["last"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(random_model(ZOO["gpt2-odd"]), None, tmp_path / "model")
    return tmp_path / "model"


def edit(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return damage


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-50])


def index(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "model-1.safetensors")
        (folder / f"{WEIGHTS}.index.json").write_text(text)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (edit(lambda weights: weights.pop("transformer.wpe.weight")), "missing: transformer.wpe.weight"),
        (edit(lambda weights: weights.update(more=torch.ones(2))), "does not have: more"),
        (
            edit(lambda weights: weights.update({"transformer.ln_f.weight": torch.ones(23)})),
            r"transformer.ln_f.weight has the shape \[23\]; config.json asks for \[24\]",
        ),
        (
            edit(lambda weights: weights.update({"lm_head.weight": torch.ones(97, 24).to(torch.float8_e5m2)})),
            "lm_head.weight has the type torch.float8_e5m2",
        ),
        (
            edit(lambda weights: weights.update({"lm_head.weight": torch.ones(97, 24, dtype=torch.int8)})),
            "lm_head.weight has the type torch.int8",
        ),
        (pickled, "there is no model.safetensors; .* pickle files"),
        (cut(WEIGHTS), "model.safetensors is damaged"),
        (cut("config.json"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json is damaged: it holds no JSON object"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}"), "config.json is damaged"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), "model.safetensors is damaged"),
        (lambda folder: (folder / WEIGHTS).unlink(), "there is no model.safetensors$"),
        (index('{"weight_map": {"transformer.wte.weight": "../other.safetensors"}}'), "is not the name of a file"),
        (index('{"weight_map": {"a": "model-2.safetensors"}}'), "there is no model-2.safetensors"),
        (index('{"weight_map": {"a": "model-1.safetensors"}}'), "names a, which no file holds"),
        (index('{"weight_map": {"a": 1}}'), "has no weight_map"),
        (index("{}"), "has no weight_map"),
    ],
)
def test_damage_is_told_in_one_line(damage: Callable[[Path], None], words: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


def test_a_head_that_is_tied_but_differs(tmp_path: Path) -> None:
    save(random_model(ZOO["gpt2"]), None, tmp_path)
    edit(lambda weights: weights.update({"lm_head.weight": torch.ones(97, 24)}))(tmp_path)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is not equal to the embedding table"):
        load(tmp_path)


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "../a", "./x", "~/none", "C:\\models\\x", ""])
def test_what_can_be_no_hub_id_is_a_missing_folder(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no model folder|no config\.json"):
        load(source)


def test_a_missing_folder_in_one_that_exists_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match="there is no model folder runs"):
        load("runs/story-5m")


def test_a_preset_is_its_run_or_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"story-1m is a preset: train it \(storylm train story-1m\), then name runs"
    ):
        load("story-1m")
    save(model := random_model(SMALL), None, tmp_path / "runs/story-1m/checkpoints/best")
    assert fingerprint(load("story-1m")[0]) == fingerprint(model)
    save(other := random_model(SMALL.model_copy(update={"layers": 2})), None, tmp_path / "story-1m")
    assert fingerprint(load("story-1m")[0]) == fingerprint(other)  # a folder of that name comes first


def test_a_hub_id_is_fetched_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision))
        assert WEIGHTS in allow_patterns
        assert not any("bin" in pattern for pattern in allow_patterns)
        if repo == "some/where-else":
            raise OSError("We couldn't connect\nand more lines")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert same_weights(load("some/one")[0], load("some/one@refs/pr/1")[0])
    assert asked == [("some/one", None), ("some/one", "refs/pr/1")]
    with pytest.raises(CheckpointError, match=r"some.where-else here.*We couldn't connect$"):
        load("some/where-else")
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"on the Hub has no model\.safetensors; if there are weights in"):
        load("some/one")


def test_a_file_or_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "stories15M.bin").touch()
    with pytest.raises(CheckpointError, match=r"stories15M\.bin is a file.*storylm convert"):
        load(tmp_path / "stories15M.bin")
    with pytest.raises(CheckpointError, match=r"it has no config\.json and no checkpoints"):
        load(tmp_path)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    tokenizer, small = Tokenizer.load("bytes"), random_model(ZOO["gpt2"])
    with pytest.raises(CheckpointError, match="257 tokens but the model only 97"):
        save(small, tokenizer, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    save(small, None, tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="257 tokens but the model only 97"):
        load(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError):
        load(tmp_path / "model")


def test_a_model_without_a_class_in_transformers_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = random_model(ModelConfig(family="llama", width=8, heads=2, layers=1, vocab_size=9, positions="none"))
    with pytest.raises(UsageError, match="positions=none cannot be saved as llama"):
        save(model, None, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_saving_replaces_a_model_and_nothing_else(tmp_path: Path) -> None:
    first, second = (random_model(ZOO["gpt2"], seed=seed) for seed in (1, 2))
    save(first, None, tmp_path / "model")
    save(second, None, tmp_path / "model")
    assert same_weights(load(tmp_path / "model")[0], second)
    (tmp_path / "model" / "trainer_state.json").touch()
    with pytest.raises(UsageError, match=r"holds trainer_state\.json, which saving a model there would delete"):
        save(first, None, tmp_path / "model")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        save(first, None, tmp_path / "file")
    assert same_weights(load(tmp_path / "model")[0], second)


def test_a_failure_while_saving_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (random_model(ZOO["gpt2"], seed=seed) for seed in (1, 2))
    save(first, None, tmp_path / "model")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(second, None, tmp_path / "model")
    monkeypatch.undo()
    assert same_weights(load(tmp_path / "model")[0], first)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    shutil.rmtree(tmp_path / "model")

"""Our models and transformers' (version 5) are the same models: equal logits, files that go both ways."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import storylm
from model.conftest import TEXTS
from model.model_zoo import ENLARGED, TOLERANCE, ZOO, random_model, random_tokens, same_weights, tokenizer_model
from storylm.model.store import load, save


@pytest.fixture(scope="module")
def transformers() -> Any:
    return import_module("transformers")  # late: it takes seconds


@pytest.mark.parametrize("scale", [1.0, ENLARGED])
@pytest.mark.parametrize("name", ZOO)
def test_transformers_loads_what_we_save_and_back(name: str, scale: float, tmp_path: Path, transformers: Any) -> None:
    model = random_model(ZOO[name], scale)
    tokens = random_tokens(ZOO[name])
    save(model, None, tmp_path / "ours")
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(theirs).__name__ == theirs.config.architectures[0]
    assert not any(info.values()), info
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, **TOLERANCE)
    theirs.save_pretrained(tmp_path / "theirs")
    again, tokenizer = load(tmp_path / "theirs")
    assert tokenizer is None
    assert again.config == model.config
    assert same_weights(again, model)


@pytest.mark.parametrize("name", ZOO)
def test_we_load_a_model_made_by_transformers(name: str, tmp_path: Path, transformers: Any) -> None:
    """A model whose weights, config.json and files we never wrote; in two files, as large ones are."""
    save(random_model(ZOO[name]), None, tmp_path / "ours")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    torch.manual_seed(1)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.2) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    model, _ = load(tmp_path / "theirs")
    tokens = random_tokens(ZOO[name])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, **TOLERANCE)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "llama", "mistral", "qwen3"])
def test_a_bare_body_and_its_defaults_load(name: str, tmp_path: Path, transformers: Any) -> None:
    """Files of `AutoModel` lack the prefix and the head; the config says only what it must."""
    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    others = {"num_layers": 2, "num_heads": 4} if name == "gpt_neo" else {}
    if name == "gpt_neo":
        others |= {"attention_types": [[["global", "local"], 1]]}
    elif name != "gpt2":
        others = {"intermediate_size": 40, "tie_word_embeddings": True, "max_position_embeddings": 128}
        others |= {"num_key_value_heads": 2}
    config = transformers.AutoConfig.for_model(name, **sizes, **others, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(2)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.base_model.save_pretrained(tmp_path)
    model, _ = load(tmp_path)
    tokens = random_tokens(model.config)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, **TOLERANCE)


def test_auto_tokenizer_cuts_text_as_ours_does(tokenizers: Any, tmp_path: Path, transformers: Any) -> None:
    for name, (family, tokenizer) in tokenizers.items():
        save(tokenizer_model(family, tokenizer), tokenizer, tmp_path / name)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
        for text in TEXTS:
            ids = theirs(text, add_special_tokens=False)["input_ids"]
            assert ids == tokenizer.encode(text), (name, text)
            assert theirs.decode(ids) == tokenizer.decode(ids), (name, text)
        assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.start_id, tokenizer.end_id), name
        theirs.save_pretrained(tmp_path / f"{name}-again")
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name).save_pretrained(tmp_path / f"{name}-again")
        _, again = load(tmp_path / f"{name}-again")
        assert again is not None
        assert (again.start_id, again.end_id) == (tokenizer.start_id, tokenizer.end_id), name
        assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS], name


def test_a_story_ends_where_it_should_in_transformers(tokenizers: Any, tmp_path: Path, transformers: Any) -> None:
    """generation_config.json names the end of a story, and what a batch is filled up with."""
    tokenizer = tokenizers["own-qwen3"][1]
    model = tokenizer_model("qwen3", tokenizer)
    save(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    settings = theirs.generation_config
    assert settings.eos_token_id == settings.pad_token_id == tokenizer.end_id
    prompt = torch.tensor([[tokenizer.start_id, *tokenizer.encode("Once upon a time")]])
    told = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=12)
    ours = storylm.generate(model, tokenizer, "Once upon a time", temperature=0, max_new_tokens=12)
    assert tokenizer.decode(told[0].tolist()) == ours[0]


def test_a_window_off_by_one_would_be_seen() -> None:
    """The comparisons above have teeth: one key more or less changes logits far beyond the tolerance."""
    for name, config in ZOO.items():
        if not any(config.windows):
            continue
        wider = config.model_copy(update={"windows": tuple(window and window + 1 for window in config.windows)})
        model, other = random_model(config), random_model(wider)
        tokens = random_tokens(config)
        with torch.no_grad():
            assert (model(tokens) - other(tokens)).abs().max() > 10 * TOLERANCE["atol"], name

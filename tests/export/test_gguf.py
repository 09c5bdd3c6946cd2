"""GGUF files: the same logits in transformers' reader and in llama.cpp, the same cuts of text; refused where not."""

import json
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.conftest import EXPRESSIBLE, TEXTS, config, needed
from export.odd_texts import odd_texts, sentences
from model.model_zoo import ENLARGED, TOLERANCE, random_model, random_tokens, same_weights
from storylm.config.errors import CheckpointError, SetupError, UsageError
from storylm.config.model import ModelConfig
from storylm.export.gguf import PRECISIONS, modelfile, read_gguf, write_gguf
from storylm.export.llama_cpp import check_gguf
from storylm.model.store import save
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

gguf = pytest.importorskip("gguf")
# Of a weight, or of the largest that shares its scale, which is fp16 itself.
ROUNDED = {"f32": 0.0, "f16": 2**-11, "q8_0": 0.5 / 127 + 2**-11}


def logits(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model(random_tokens(model.config))


def loaded_by_transformers(folder: Path, file: str, family: str) -> Any:
    """What transformers makes of a file. For qwen3 and gpt2 its reader does not translate all that the file says (the
    width of heads, the context): there the sizes come from config.json beside it, the weights from the file."""
    transformers = import_module("transformers")
    known = {} if family in ("llama", "mistral") else {"config": transformers.AutoConfig.from_pretrained(folder)}
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, **known).eval()


@pytest.mark.parametrize("scale", [1.0, ENLARGED])
@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_transformers_reads_the_same_model(name: str, scale: float, own: Tokenizer, tmp_path: Path) -> None:
    model = random_model(EXPRESSIBLE[name], scale)
    save(model, own, tmp_path)
    write_gguf(model, own, tmp_path / "model.gguf", "f32")
    assert same_weights(read_gguf(tmp_path / "model.gguf", model.config), model)
    theirs = loaded_by_transformers(tmp_path, "model.gguf", model.config.family)
    with torch.no_grad():
        torch.testing.assert_close(logits(model), theirs(random_tokens(model.config)).logits, **TOLERANCE)


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
@pytest.mark.parametrize("name", ["llama-tied", "qwen3", "gpt2"])
def test_rounded_weights_are_near_and_read_alike(name: str, precision: str, own: Tokenizer, tmp_path: Path) -> None:
    model = random_model(EXPRESSIBLE[name], ENLARGED)
    save(model, own, tmp_path)
    write_gguf(model, own, tmp_path / "model.gguf", precision)
    rounded = read_gguf(tmp_path / "model.gguf", model.config)
    for (key, ours), theirs in zip(model.state_dict().items(), rounded.state_dict().values(), strict=True):
        allowed = ROUNDED[precision] * ours.abs().amax(-1, keepdim=True) if ours.ndim > 1 else 0 * ours
        assert ((ours - theirs).abs() <= allowed).all(), key
    theirs = loaded_by_transformers(tmp_path, "model.gguf", model.config.family)
    with torch.no_grad():
        torch.testing.assert_close(logits(rounded), theirs(random_tokens(model.config)).logits, **TOLERANCE)


def test_what_a_file_says(own: Tokenizer, tmp_path: Path) -> None:
    settings = config("qwen3", kv_heads=2, head_dim=24, rope_theta=1234.5, norm_eps=1e-5, ff_width=72, tied=True)
    for precision in PRECISIONS:
        write_gguf(random_model(settings), own, tmp_path / f"{precision}.gguf", precision, name="a name")
    reader = gguf.GGUFReader(tmp_path / "q8_0.gguf")

    def said(key: str) -> Any:
        return reader.fields[key].contents()

    assert said("general.architecture") == "qwen3"
    assert said("general.name") == "a name"
    expected = {
        "context_length": 40,
        "embedding_length": 96,
        "block_count": 3,
        "feed_forward_length": 72,
        "attention.head_count": 6,
        "attention.head_count_kv": 2,
        "attention.key_length": 24,
        "attention.value_length": 24,
        "rope.dimension_count": 24,
        "vocab_size": 320,
    }
    assert {key: said(f"qwen3.{key}") for key in expected} == expected
    assert said("qwen3.rope.freq_base") == pytest.approx(1234.5)
    assert said("qwen3.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.2.attn_k.weight"] == "Q8_0"
    assert kinds["blk.2.ffn_down.weight"] == "F16"  # rows of 72 numbers are no blocks of 32
    assert kinds["blk.2.attn_k_norm.weight"] == kinds["output_norm.weight"] == "F32"
    assert "output.weight" not in kinds  # tied: stored once
    for precision, kind in {"f32": "F32", "f16": "F16"}.items():
        tensors = gguf.GGUFReader(tmp_path / f"{precision}.gguf").tensors
        assert {tensor.tensor_type.name for tensor in tensors if len(tensor.shape) > 1} == {kind}
    tokens, kinds = said("tokenizer.ggml.tokens"), said("tokenizer.ggml.token_type")
    assert len(tokens) == len(set(tokens)) == 320
    spec = own.to_json()["model"]
    assert [tokens[id] for id in spec["vocab"].values()] == list(spec["vocab"])
    assert [merge.split(" ") for merge in said("tokenizer.ggml.merges")] == [list(pair) for pair in spec["merges"]]
    assert kinds[own.end_id] == gguf.TokenType.CONTROL
    assert kinds[-1] == gguf.TokenType.UNUSED
    assert (said("tokenizer.ggml.model"), said("tokenizer.ggml.pre")) == ("gpt2", "gpt-2")
    assert said("tokenizer.ggml.bos_token_id") == said("tokenizer.ggml.eos_token_id") == own.end_id
    assert said("tokenizer.ggml.add_bos_token") is True


def test_transformers_cuts_text_alike(own: Tokenizer, tmp_path: Path) -> None:
    write_gguf(random_model(EXPRESSIBLE["llama"]), own, tmp_path / "model.gguf", "q8_0")
    theirs = import_module("transformers").AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == own.encode(text)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (config("gpt_neo"), r"no form for models of the family gpt_neo .*export to hf or onnx"),
        (config("mistral", windows=(39,)), r"model\.windows=\[39\] below the context"),
        (config("qwen3", windows=(None, 8)), r"model\.windows=\[None, 8\] below the context"),
        (config("llama", activation="gelu_tanh"), "model.activation=gelu_tanh"),
        (config("gpt2", activation="relu"), "model.activation=relu"),
        (config("llama", attention_bias=True), "model.attention_bias=True"),
        (config("qwen3", ff_bias=True), "model.ff_bias=True"),
        (config("qwen3", attention_scale=0.3), "model.attention_scale=0.3"),
        (config("gpt2", kv_heads=2), "model.kv_heads=2"),
        (config("gpt2", head_dim=8), "model.head_dim=8"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(settings: ModelConfig, words: str, own, tmp_path) -> None:
    with pytest.raises(UsageError, match=words):
        write_gguf(random_model(settings), own, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_what_else_is_refused(own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(EXPRESSIBLE["llama"])
    with pytest.raises(UsageError, match="the model has none"):
        write_gguf(model, None, tmp_path / "model.gguf")
    with pytest.raises(UsageError, match=r"precision 'q4_0' is not known to GGUF: choose one of f32, f16, q8_0"):
        write_gguf(model, own, tmp_path / "model.gguf", "q4_0")
    with pytest.raises(CheckpointError, match="no file"):
        read_gguf(tmp_path / "model.gguf", model.config)
    write_gguf(model, own, tmp_path / "model.gguf", "f32")
    with pytest.raises(CheckpointError, match="weights are missing"):
        read_gguf(tmp_path / "model.gguf", model.config.model_copy(update={"layers": 4}))
    monkeypatch.setitem(import_module("sys").modules, "gguf", None)
    with pytest.raises(SetupError, match=r"pip install 'storylm\[export\]'"):
        write_gguf(model, own, tmp_path / "other.gguf")


def test_spaces_that_llama_cpp_keeps_are_told(shared: Path) -> None:
    tokenizer = Tokenizer.load(shared / "reference" / "stories260K" / "tok512.model")
    (note,) = check_gguf(config("llama", vocab_size=512), tokenizer)
    assert "several spaces" in note
    mistral = Tokenizer.load(shared / "reference" / "mistral")
    assert check_gguf(config("llama", vocab_size=32000), mistral) == []


def test_a_modelfile(own: Tokenizer) -> None:
    lines = modelfile("model-q8_0.gguf", EXPRESSIBLE["llama"], own).splitlines()
    assert lines[0] == "FROM ./model-q8_0.gguf"
    assert 'TEMPLATE """{{ .Prompt }}"""' in lines
    assert "PARAMETER num_ctx 40" in lines
    assert f"PARAMETER stop {json.dumps(own.end)}" in lines


# llama.cpp itself.


class LlamaCpp:
    """A file in llama.cpp, its cache in fp32 as the numbers that are compared."""

    def __init__(self, path: Path, **options: Any):
        module = needed("llama_cpp")
        fp32 = {"type_k": module.GGML_TYPE_F32, "type_v": module.GGML_TYPE_F32}
        self.llama = module.Llama(
            str(path), n_ctx=64, n_batch=64, n_threads=1, logits_all=True, verbose=False, **fp32, **options
        )

    def logits(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        rows = []
        for tokens_T in tokens_BT:
            self.llama.reset()
            self.llama.eval(tokens_T.tolist())
            rows.append(np.array(self.llama.scores[: len(tokens_T)]))
        return torch.from_numpy(np.stack(rows))

    def ids(self, text: str) -> list[int]:
        return self.llama.tokenize(text.encode(), add_bos=True, special=False)


def gelu_of_table(x: torch.Tensor) -> torch.Tensor:
    """llama.cpp's: a table that has an answer in fp16 to every number in fp16, between -10 and 10 (ggml-cpu/vec.h)."""
    answer = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().to(x.dtype)
    return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, answer))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, ENLARGED])
@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_llama_cpp_computes_the_same(name: str, scale: float, own: Tokenizer, tmp_path: Path) -> None:
    model = random_model(EXPRESSIBLE[name], scale)
    write_gguf(model, own, tmp_path / "model.gguf", "f32")
    theirs = LlamaCpp(tmp_path / "model.gguf").logits(random_tokens(model.config))
    difference = theirs - logits(model)
    if name.startswith("gpt2") and scale > 1:
        assert difference.square().mean().sqrt() > 3e-4
        for block in model.double().blocks:  # in fp32 more numbers would fall to the other side of where fp16 rounds
            block.ff.activation = gelu_of_table
        difference = theirs - logits(model)
        assert difference.square().mean().sqrt() < 1e-4
    assert difference.abs().max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "within"), [("f16", 0.002), ("q8_0", 0.02)])
@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_llama_cpp_reads_rounded_weights(
    name: str, precision: str, within: float, own: Tokenizer, tmp_path: Path
) -> None:
    """It rounds what flows through the model as it rounds weights, so little more than nearness can be asked for."""
    model = random_model(EXPRESSIBLE[name])
    write_gguf(model, own, tmp_path / "model.gguf", precision)
    theirs = LlamaCpp(tmp_path / "model.gguf").logits(random_tokens(model.config))
    assert (theirs - logits(read_gguf(tmp_path / "model.gguf", model.config))).abs().max() < within


def vocabulary_reader(tokenizer: Tokenizer, folder: Path) -> LlamaCpp:
    settings = config("llama", vocab_size=tokenizer.vocab_size + 1, width=32, heads=2, layers=1)
    write_gguf(random_model(settings), tokenizer, folder / "model.gguf", "f32")
    return LlamaCpp(folder / "model.gguf", vocab_only=True)


def cut_otherwise(reader: LlamaCpp, tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    return [text for text in texts if reader.ids(text) != [tokenizer.start_id, *tokenizer.encode(text)]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "bytes", "gpt2", "mistral", "stories260K/tok512.model"])
def test_llama_cpp_cuts_10_000_texts_alike(
    kind: str, shared: Path, train_stories: list[str], valid_stories: list[str], tmp_path: Path
) -> None:
    if kind == "own":  # with merges of all kinds
        tokenizer = train_bpe([*train_stories[:3000], *odd_texts(3000, seed=1)], 4096)
    else:
        tokenizer = Tokenizer.load(kind if kind == "bytes" else shared / "reference" / kind)
    texts = [*sentences(valid_stories, 5000), *odd_texts(5000), *TEXTS, "<|endoftext|> is no end here, nor is </s>"]
    if kind.endswith(".model"):  # which makes one space of several, and none at either end
        texts = [re.sub(" +", " ", text).lstrip(" ").rstrip(" ▁") for text in texts]
    differ = cut_otherwise(vocabulary_reader(tokenizer, tmp_path), tokenizer, texts)
    assert not differ, f"{len(differ)}, such as {differ[:3]}"


@pytest.mark.slow
def test_llama_cpp_parts_words_at_every_code_point_alike(shared: Path, tmp_path: Path) -> None:
    """All of Unicode, each between others, doubled, after one space and two."""
    tokenizer = Tokenizer.load(shared / "reference" / "gpt2")
    signs = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]  # no surrogates
    each = [f"a{sign} {sign}b{sign}{sign}1 {sign}!  {sign}" for sign in signs]
    texts = ("".join(each[start : start + 32]) for start in range(0, len(each), 32))
    assert not cut_otherwise(vocabulary_reader(tokenizer, tmp_path), tokenizer, texts)

"""config.json: what is refused, and by which words; the two ways of stating what transformers 4 and 5 read."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.model_zoo import ZOO
from storylm.config.errors import CheckpointError, UsageError
from storylm.config.model import FAMILIES, ModelConfig
from storylm.model.families import ACTIVATIONS, from_config_json, to_config_json
from storylm.model.family_classes import CLASSES
from storylm.model.family_windows import WINDOWS, shortest_period
from storylm.model.feedforward import ACTIVATIONS as COMPUTED


def test_every_family_and_activation_has_a_row() -> None:
    assert CLASSES.keys() == FAMILIES.keys()
    assert ACTIVATIONS.keys() == COMPUTED.keys()


@pytest.mark.parametrize("name", ZOO)
def test_what_is_written_reads_back_the_same(name: str) -> None:
    assert from_config_json(to_config_json(ZOO[name])) == ZOO[name]


@given(
    st.lists(st.sampled_from([None, 5]), min_size=1, max_size=12), st.sampled_from(["layer_types", "attention_types"])
)
def test_any_pattern_of_one_window_reads_back(windows: list[int | None], style: str) -> None:
    write, read = WINDOWS[style]
    again = read(write(windows), len(windows))
    assert [again[layer % len(again)] for layer in range(len(windows))] == windows
    assert again == shortest_period(windows)


def test_both_spellings_of_the_rotary_base() -> None:
    values = to_config_json(ModelConfig(family="llama", rope_theta=123.0))
    assert values["rope_theta"] == values["rope_parameters"]["rope_theta"] == 123.0
    for key in ("rope_theta", "rope_parameters"):
        rest = {name: value for name, value in values.items() if name != key}
        assert from_config_json(rest).rope_theta == 123.0
    assert (
        from_config_json({**values, "rope_parameters": None, "rope_scaling": {"type": "default"}}).rope_theta == 123.0
    )


def test_ids_beyond_our_vocabulary_are_never_left_to_defaults() -> None:
    for family in FAMILIES:
        values = to_config_json(ModelConfig(family=family, vocab_size=64))
        assert values["bos_token_id"] is values["eos_token_id"] is None


def test_only_what_transformers_cannot_say_is_in_our_block() -> None:
    assert to_config_json(ModelConfig(family="gpt2", dropout=0.1))["storylm"] == {}
    config = ModelConfig(family="llama", dropout=0.1, init_outputs="zero", rope_layout="interleaved")
    assert to_config_json(config)["storylm"] == {"init_outputs": "zero", "rope_layout": "interleaved"}


@pytest.mark.parametrize(
    ("family", "settings", "setting"),
    [
        ("gpt2", {"windows": (None, 8)}, "windows"),
        ("gpt2", {"positions": "rotary"}, "positions"),
        ("gpt2", {"positions": "none"}, "positions"),
        ("gpt2", {"attention_scale": 1.0}, "attention_scale"),
        ("gpt2", {"kv_heads": 2}, "kv_heads"),
        ("gpt2", {"head_dim": 16}, "head_dim"),
        ("gpt2", {"ff_bias": False}, "ff_bias"),
        ("gpt_neo", {"attention_scale": 0.5}, "attention_scale"),
        ("gpt_neo", {"windows": (4, 8)}, "windows"),
        ("gpt_neo", {"attention_bias": True}, "attention_bias"),
        ("gpt_neo", {"norm": "rmsnorm"}, "norm"),
        ("llama", {"windows": (4,)}, "windows"),
        ("llama", {"qk_norm": True}, "qk_norm"),
        ("llama", {"gated": False}, "gated"),
        ("llama", {"attention_bias": True, "output_bias": False}, "attention_bias"),
        ("llama", {"width": 254, "head_dim": 64}, "width=254"),
        ("mistral", {"windows": (None, 4)}, "windows"),
        ("mistral", {"attention_bias": True}, "attention_bias"),
        ("mistral", {"norm": "layernorm"}, "norm"),
        ("qwen3", {"windows": (4, 8)}, "windows"),
        ("qwen3", {"qk_norm": False}, "qk_norm"),
        ("qwen3", {"positions": "none"}, "positions"),
    ],
)
def test_what_a_family_cannot_express_is_refused(family: str, settings: dict[str, Any], setting: str) -> None:
    with pytest.raises(UsageError, match=setting) as caught:
        to_config_json(ModelConfig(family=family, **settings))
    assert "\n" not in str(caught.value)


def test_the_usual_scale_spelled_out_is_no_other_model() -> None:
    assert to_config_json(ModelConfig(family="llama", attention_scale=64**-0.5))["storylm"] == {}


@pytest.mark.parametrize(
    ("family", "values", "words"),
    [
        ("llama", {"model_type": "bloom"}, "'bloom' is not one of gpt_neo"),
        ("llama", {"model_type": None}, "None is not one of"),
        ("llama", {"model_type": ["llama"]}, "is not one of"),
        ("llama", {"hidden_size": None}, "lacks hidden_size"),
        ("llama", {"hidden_size": "wide"}, "hidden_size: "),
        ("llama", {"num_key_value_heads": 3}, "kv_heads=3"),
        ("llama", {"hidden_act": "mish"}, "hidden_act='mish' is not one of"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "llama3"),
        ("llama", {"rope_parameters": {"rope_theta": 5e5}}, "two values of rope_theta, 10000.0 and 500000.0"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "full_attention"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"storylm": {"layout": 2}}, "update storylm"),
        ("llama", {"storylm": {"rope_layout": "spiral"}}, "rope_layout: "),
        ("llama", {"attention_dropout": "much"}, "damaged: .*much"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights=False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt_neo", {"attention_types": [[["global"], 3]]}, "name 3 layers, num_layers says 4"),
        ("gpt_neo", {"attention_types": [[["global", "block"], 2]]}, "'block' is not one of global, local"),
        ("gpt_neo", {"attention_types": "global"}, "config.json is damaged: "),
        ("mistral", {"layer_types": ["full_attention"] * 4}, "layer_types"),
        ("mistral", {"sliding_window": 0}, "windows"),
        ("qwen3", {"layer_types": ["full_attention"] * 3}, "name 3 layers"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 4}, "'chunked_attention' is not one of"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 4}, "sliding_window is not in use"),
    ],
)
def test_what_we_do_not_compute_is_refused(family: str, values: dict[str, Any], words: str) -> None:
    written = to_config_json(ModelConfig(family=family))
    with pytest.raises(CheckpointError, match=words) as caught:
        from_config_json({**written, **values})
    assert str(caught.value).startswith("config.json")
    assert "\n" not in str(caught.value)


def test_gpt2_as_first_published() -> None:
    """A config.json of 2019: no n_inner, no tie_word_embeddings, keys of other times."""
    config = from_config_json(
        {
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1,
            "bos_token_id": 50256,
            "embd_pdrop": 0.1,
            "eos_token_id": 50256,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05,
            "model_type": "gpt2",
            "n_ctx": 1024,
            "n_embd": 768,
            "n_head": 12,
            "n_layer": 12,
            "n_positions": 1024,
            "resid_pdrop": 0.1,
            "summary_type": "cls_index",
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
            "vocab_size": 50257,
        }
    )
    expected = ModelConfig(
        family="gpt2", vocab_size=50257, context=1024, layers=12, width=768, heads=12, dropout=0.1, windows=(None,)
    )
    assert config == expected


def test_qwen3_without_layer_types_slides_from_max_window_layers_on() -> None:
    values = to_config_json(ModelConfig(family="qwen3", layers=4))
    del values["layer_types"]
    sliding = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 3}
    assert from_config_json({**values, **sliding}).windows == (None, None, None, 9)
    assert from_config_json({**values, "max_window_layers": 3}).windows == (None,)


def test_mistral_without_a_word_on_windows_has_one_of_4096() -> None:
    values = to_config_json(ModelConfig(family="mistral"))
    assert from_config_json(values).windows == (None,)
    del values["sliding_window"]
    assert from_config_json(values).windows == (4096,)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(ZOO)), st.data())
def test_any_value_anywhere_is_read_or_refused(name: str, data: st.DataObject) -> None:
    values = to_config_json(ZOO[name])
    key = data.draw(st.sampled_from([*values, "rope_scaling", "partial_rotary_factor", "layer_types"]))
    with suppress(CheckpointError):
        from_config_json({**values, key: data.draw(_JSON)})

"""Presets, files and overrides: who wins, where a value came from, and what mistakes are told."""

import operator
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from storylm.config.errors import UsageError
from storylm.config.load import apply_overrides, from_yaml, preset, preset_names, resolve, to_yaml
from storylm.config.model import ModelConfig
from storylm.config.schema import RunConfig
from storylm.config.values import flatten, nest, read_yaml

PUBLISHED = ("xs-3m", "gpt2-33m", "word-20m", "nano-22m", "mistral-40m")


def value(config: RunConfig, name: str) -> object:
    return operator.attrgetter(name)(config)


def refusal(*arguments, **options) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- presets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_is_explained_and_survives_yaml(name: str) -> None:
    config = preset(name)
    assert config.name == name
    assert config.about
    assert from_yaml(to_yaml(config), "there") == config
    assert apply_overrides(config, []) == config
    assert config.optim.warmup_share is None or config.optim.warmup_steps == 100  # only one of them is said


def test_our_own_recipes_train_rows_as_long_as_the_context_they_claim() -> None:
    """What lies beyond the rows' length is at distances never seen in training, and is read badly (LOG.md)."""
    ours = [preset(name) for name in preset_names() if name.split("-")[0] in ("story", "minutes", "grammar")]
    assert len(ours) == 9
    assert all(config.row_length == config.model.context for config in ours)


def test_presets_come_our_own_first_then_the_published_then_by_size() -> None:
    names = preset_names()
    assert names[:4] == ["story-1m", "story-5m", "story-15m", "story-33m"]
    assert names[4:9] == ["grammar-1m", "minutes-1", "minutes-2", "minutes-10", "minutes-60"]
    assert names[9:14] == list(PUBLISHED)
    assert [name for name in names if name.startswith("llama2c")] == [
        "llama2c-260k",
        "llama2c-15m",
        "llama2c-42m",
        "llama2c-110m",
    ]
    assert len(names) == len(set(names)) == 28


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_only_what_differs(name: str, tmp_path: Path) -> None:
    """Without any one of its lines it would be another preset, or none."""
    said = read_yaml((files("storylm.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8"), name)
    base = said.pop("base", None)
    said = flatten(said)
    assert {"name", "about"} <= set(said)
    for key in said:
        rest = nest({other: value for other, value in said.items() if other != key})
        file = tmp_path / "rest.yaml"
        file.write_text(yaml.safe_dump({"base": base, **rest}), encoding="utf-8")
        try:
            without = resolve(None, file).config
        except UsageError:
            continue
        assert without != preset(name), f"{key} says nothing"


def test_published_trainings() -> None:
    gpt2, nano, word, mistral = (preset(name) for name in ("gpt2-33m", "nano-22m", "word-20m", "mistral-40m"))
    assert gpt2.train.batch_size * gpt2.train.accumulation == 1024
    assert (gpt2.optim.lr, gpt2.optim.clip, gpt2.optim.warmup_steps) == (1e-4, 0.5, 1000)
    assert nano.train.steps * nano.train.batch_size * nano.row_length == 458_752_000
    assert (word.train.epochs, word.model.dropout, word.data.layout) == (19, 0.2, "padded")
    assert (mistral.model.windows, mistral.train.patience, mistral.optim.lr) == ((384,), 2, 2e-5)
    assert (gpt2.optim.weight_decay, gpt2.optim.schedule, gpt2.train.eval_every) == (0.1, "cosine", 500)
    paper, story = preset("paper-33m").optim, preset("story-5m")
    assert (paper.lr, paper.weight_decay, paper.betas, paper.schedule) == (5e-4, 0.1, (0.9, 0.95), "constant")
    assert (story.optim.muon_lr, story.optim.muon_momentum, story.optim.muon_decay) == (0.02, 0.95, 0.15)
    assert (story.model.family, story.model.vocab_size, story.model.context) == ("qwen3", 4096, 512)
    assert preset("paper-33m").train.batch_size * preset("paper-33m").train.accumulation == 1280
    assert preset("cs336-17m").train.steps * 128 * 256 == 327_680_000
    large = preset("llama2c-110m")
    assert large.train.batch_size * large.train.accumulation * large.row_length == 131_072


# -- order and origins -----------------------------------------------------------------------------------


def test_preset_then_file_then_override(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("optim:\n  lr: 3e-3\n  clip: 2\ntrain.seed: 7\n", encoding="utf-8")
    resolved = resolve("xs-3m", file, ["optim.clip=null", "model.width=128"])
    config, origins = resolved.config, resolved.origins
    assert (config.optim.lr, config.optim.clip, config.train.seed) == (3e-3, None, 7)
    assert origins["optim.lr"] == f"file {file}"
    assert origins["optim.clip"] == origins["model.width"] == "override"
    assert origins["model.heads"] == "preset xs-3m"
    assert origins["model.attention_scale"] == "family gpt_neo"
    assert origins["model.ff_width"] == "4 x model.width"
    assert config.model.ff_width == 512
    assert origins["optim.eps"] == "default"


def test_a_file_may_build_on_a_preset_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("base: paper-8m\noptim: {lr: 0.002}\n", encoding="utf-8")
    resolved = resolve(None, file)
    assert (resolved.config.model.width, resolved.config.optim.lr) == (256, 0.002)
    assert resolved.origins["model.width"] == "preset paper-8m"
    assert resolved.origins["model.layers"] == "preset paper-1m"
    assert "base" in refusal("xs-3m", file)
    file.write_text("base: paper-9m\n", encoding="utf-8")
    assert "did you mean 'paper-" in refusal(None, file)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lr=1e-3", 1e-3),
        ("optim.clip=null", None),
        ("model.windows=[null, 256]", (None, 256)),
        ("optim.betas=[0.9, 1e-1]", (0.9, 0.1)),
        ("train.compile=on", "on"),
        ("train.steps=1e4", 10_000),
        ("train.steps=010", 10),
        ("model.tied=off", False),
        ("train.sample_prompts=[Once, 'One day, a dog']", ("Once", "One day, a dog")),
        ("data.source=grammar?stories=20", "grammar?stories=20"),
        ("data.validation=12", "12"),
        ("data.validation=null", None),
        ("about=a: b, [c", "a: b, [c"),
        ("data.cleaning.mojibake=false", False),
    ],
)
def test_override_values_are_read_as_meant(override: str, expected: object) -> None:
    assert value(resolve("story-1m", None, [override]).config, override.split("=")[0]) == expected


def test_the_same_in_a_file() -> None:
    config = from_yaml("train: {compile: on, steps: 1e4}\noptim: {lr: 1e-3}\n", "there")
    assert (config.train.compile, config.train.steps, config.optim.lr) == ("on", 10_000, 1e-3)


# -- settings that stand for each other ------------------------------------------------------------------


def test_a_later_length_replaces_an_earlier_one() -> None:
    config = resolve("nano-22m", None, ["train.minutes=3"]).config
    assert (config.train.steps, config.train.epochs, config.train.minutes) == (None, None, 3.0)
    config = apply_overrides(config, ["train.epochs=2"])
    assert (config.train.steps, config.train.epochs, config.train.minutes) == (None, 2.0, None)


def test_two_lengths_at_once_are_refused(tmp_path: Path) -> None:
    message = refusal("nano-22m", None, ["train.minutes=3", "train.steps=5"])
    assert "train.steps and train.minutes" in message
    file = tmp_path / "my.yaml"
    file.write_text("train: {steps: 3, epochs: 1}\n", encoding="utf-8")
    assert str(file) in refusal("xs-3m", file)
    file.write_text("train: {steps: 3, epochs: null}\n", encoding="utf-8")
    assert resolve("xs-3m", file).config.train.steps == 3


def test_warmup_steps_given_later_replace_a_share() -> None:
    assert preset("nano-22m").optim.warmup_share == 0.1
    config = resolve("nano-22m", None, ["optim.warmup_steps=7"]).config
    assert (config.optim.warmup_steps, config.optim.warmup_share) == (7, None)


def test_two_warmups_at_once_are_refused() -> None:
    for name in ("story-1m", "nano-22m"):
        message = refusal(name, None, ["optim.warmup_share=0.1", "optim.warmup_steps=5"])
        assert "warmup_steps=5 and warmup_share=0.1" in message


@pytest.mark.parametrize("saved", [False, True])
def test_another_family_brings_its_own_defaults(saved: bool) -> None:
    """Also where every default of the old family stands written in a run's config.yaml."""
    config = preset("xs-3m")
    config = from_yaml(to_yaml(config), "there") if saved else config
    changed = apply_overrides(config, ["model.family=llama", "model.width=128"]).model
    assert changed == ModelConfig(
        family="llama", vocab_size=50257, context=512, layers=8, width=128, heads=16, dropout=0.1
    )


@pytest.mark.parametrize("saved", [False, True])
def test_what_followed_from_others_still_does(saved: bool) -> None:
    config = preset("gpt2-33m")
    config = from_yaml(to_yaml(config), "there") if saved else config
    changed = apply_overrides(config, ["model.width=96", "model.heads=3"]).model
    assert (changed.ff_width, changed.head_dim, changed.kv_heads) == (384, 32, 3)
    kept = apply_overrides(preset("llama2c-260k"), ["model.width=32"]).model
    assert (kept.ff_width, kept.kv_heads) == (172, 4)  # these were chosen


# -- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.warmup_step=3", ["unknown setting 'optim.warmup_step'", "did you mean 'optim.warmup_steps'"]),
        ("lr=1", ["did you mean 'optim.lr'"]),
        ("train.lr=1", ["did you mean 'optim.lr'"]),
        ("learning_rate=1", ["did you mean 'optim.lr'"]),
        ("data.cleaning.mojibak=false", ["did you mean 'data.cleaning.mojibake'"]),
        ("zzz=1", ["unknown setting 'zzz'", "optim, train"]),
        ("optim.zzz=1", ["unknown setting 'optim.zzz'", "muon_lr"]),
        ("optim=3", ["'optim' is a group", "muon_lr"]),
        ("train=", ["'train' is a group"]),
        ("muon", ["'muon'", "key=value"]),
        ("optim.schedule=cosin", ["cosin", "constant, linear, cosine or wsd", "did you mean 'cosine'"]),
        ("model.family=lama", ["gpt_neo", "did you mean 'llama'"]),
        ("optim.lr=-1", ["optim.lr=-1", "a number (greater than 0)"]),
        ("optim.lr=fast", ["optim.lr=fast", "a number (greater than 0)"]),
        ("optim.lr=.nan", ["optim.lr=nan", "a number"]),
        ("optim.lr=null", ["optim.lr=null", "a number"]),
        ("model.dropout=1", ["at least 0 and less than 1"]),
        ("train.steps=1.5", ["train.steps=1.5", "a whole number (at least 1), or null"]),
        ("train.steps=true", ["train.steps=true", "a whole number"]),
        ("model.tied=maybe", ["model.tied=maybe", "true or false"]),
        ("model.windows=[x]", ["model.windows", "a list, each a whole number, or null"]),
        ("optim.betas=[0.9]", ["optim.betas=[0.9]", "2 items"]),
        ("optim.betas=[1.5,2]", ["optim.betas=[1.5, 2]", "each a number (at least 0 and less than 1)"]),
        ("optim.betas=[0.9,1.0]", ["optim.betas=[0.9, 1.0]", "less than 1"]),
        ("train.seed=99999999999999999999999999", ["train.seed=9999", "at most 2147483647"]),
        ("train.minutes=1:30", ["train.minutes=1:30", "a number (greater than 0)"]),
        ("train.sample_prompts=[a", ["not valid YAML", "a list, each text"]),
        ("optim.lr=2024-99-99", ["optim.lr=2024-99-99", "a number"]),
        ("optim.lr=" + 5000 * "9", ["optim.lr"]),
        ("optim.lr=a\n b", ["optim.lr=a b"]),
        ("a\nb=1", ["unknown setting"]),
        ("model.heads=3", ["model: width=128", "heads=3"]),
        ("data.context=900", ["data.context=900", "model.context=512"]),
    ],
)
def test_mistakes_say_what_is_allowed(override: str, words: list[str]) -> None:
    message = refusal("story-1m", None, [override])
    assert all(word in message for word in words), message


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    for text, words in {
        "optim: {warmup_step: 3}": ["'optim.warmup_step' in", "my.yaml", "optim.warmup_steps"],
        "optim: {lr: -1}": ["my.yaml", "greater than 0"],
        "optim: 3": ["group of settings", "my.yaml"],
        "optim: [": ["not valid YAML", "my.yaml"],
        "just words": ["no settings", "my.yaml"],
        "optim:\n  lr: 0.1\n  clip: 2\n  lr: 0.2": ["'lr' is set twice", "line 4", "my.yaml"],
        "optim: {lr: 1}\ntrain: {seed: 1}\noptim: {clip: 1}": ["'optim' is set twice", "my.yaml"],
        "optim.lr: 0.1\noptim: {lr: 0.1}": ["'optim.lr' is set twice", "my.yaml"],
        "train: {steps: 0, batch_size: 0}": ["train.steps=0", "train.batch_size=0"],
    }.items():
        file.write_text(text, encoding="utf-8")
        message = refusal("xs-3m", file)
        assert all(word in message for word in words), message
    file.write_bytes(b"\xff\xfe\x00")
    assert "my.yaml" in refusal(None, file)
    assert "my.yaml" in refusal(None, tmp_path / "not" / "my.yaml")
    assert "cannot read" in refusal(None, tmp_path)
    file.write_text("# nothing yet\noptim:\n", encoding="utf-8")
    assert resolve("xs-3m", file).config == preset("xs-3m")


def test_unknown_presets() -> None:
    assert "did you mean 'story-" in refusal("story-9m")
    assert "storylm presets" in refusal("qqqqq")


# -- properties ------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=40), st.floats(1e-12, 1e6), st.lists(st.text(), max_size=3), st.booleans())
def test_any_settings_survive_yaml(text: str, number: float, prompts: list[str], on: bool) -> None:
    config = RunConfig.model_validate(
        {
            "name": text,
            "about": text,
            "model": {"windows": [None, 3], "norm_eps": number},
            "optim": {"eps": number, "clip": None if on else number},
            "train": {"sample_prompts": prompts, "minutes": number, "compile": "on" if on else "off"},
        }
    )
    assert from_yaml(to_yaml(config), "there") == config


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_override_breaks_it(key: str, text: str) -> None:
    """Whatever is typed: settings, or one line that says what is wrong."""
    for override in (f"{key}={text}", f"optim.lr={text}", f"model.windows=[{text}]", f"data.cleaning.{key}={text}"):
        message = None
        try:
            resolve("story-1m", None, [override])
        except UsageError as error:
            message = str(error)
        assert message is None or len(message.splitlines()) == 1

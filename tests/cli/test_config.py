"""`storylm config`: a file that --config understands, with the origin of every value."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from storylm.cli import app
from storylm.config.errors import UsageError
from storylm.config.keys import FIELDS
from storylm.config.load import from_yaml, preset, resolve


def output(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["config", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_every_value_has_its_origin_and_the_whole_is_a_config_file(tmp_path: Path) -> None:
    text = output("xs-3m", "optim.lr=1e-3", "model.windows=[null, 128]", "about=a: b # c")
    expected = resolve("xs-3m", None, ["optim.lr=1e-3", "model.windows=[null, 128]", "about=a: b # c"])
    assert from_yaml(text, "output") == expected.config
    assert text.count("  # ") == len(FIELDS)
    lines = {line.split(":")[0].strip(): line for line in text.splitlines() if "  # " in line}
    assert lines["lr"].endswith("# override")
    assert lines["width"].endswith("# preset xs-3m")
    assert lines["attention_scale"].endswith("# family gpt_neo")
    assert lines["ff_width"].endswith("# 4 x model.width")
    assert lines["mojibake"].endswith("# default")
    assert lines["windows"].endswith("# override")
    columns = {line.rindex("  # ") for line in lines.values() if len(line.split("  # ")[0].rstrip()) < 48}
    assert len(columns) == 1
    file = tmp_path / "whole.yaml"
    file.write_text(text, encoding="utf-8")
    assert resolve(None, file).config == expected.config


def test_long_values_do_not_confuse_it() -> None:
    prompt = "Once upon a time: there was a very long prompt " * 4
    config = from_yaml(output("story-1m", f"train.sample_prompts=['{prompt}', '- b: c', \"x\\ny\"]"), "output")
    assert config.train.sample_prompts == (prompt, "- b: c", "x\ny")
    assert from_yaml(output("story-1m", f"about={prompt}"), "output").about == prompt


def test_settings_alone_and_mistakes() -> None:
    assert from_yaml(output("train.seed=3"), "output").train.seed == 3
    assert from_yaml(output("nano-22m"), "output") == preset("nano-22m")
    with pytest.raises(UsageError, match=r"did you mean 'optim\.lr'"):
        output("story-1m", "lr=3")

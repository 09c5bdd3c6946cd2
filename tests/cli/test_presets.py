"""`storylm presets`: every preset on a line of its own."""

import json

from typer.testing import CliRunner

from storylm.cli import app
from storylm.config.load import preset_names


def test_the_table_names_every_preset_with_its_parameters() -> None:
    lines = CliRunner().invoke(app, ["presets"]).stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in preset_names()}
    assert list(rows) == preset_names()
    assert len([line for line in lines if line.strip()]) == 2 + len(rows)  # a line each
    assert all(word in rows["xs-3m"] for word in ("3,647,680", "8 x 64, 16", "512", "gpt2 50,257", "TinyStories XS"))


def test_json() -> None:
    rows = json.loads(CliRunner().invoke(app, ["presets", "--json"]).stdout)
    assert [row["name"] for row in rows] == preset_names()
    (row,) = [row for row in rows if row["name"] == "llama2c-260k"]
    assert row["about"]
    assert (row["parameters"], row["layers"], row["vocab_size"], row["tokenizer"]) == (260_032, 5, 512, "bpe")

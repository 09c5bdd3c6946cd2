"""The page of `storylm inspect`: what is on it is what was found."""

import json
import re

import pytest
import torch

from cli.telling import call, small_model
from report.reading import Page
from storylm.cli.inspect import inspect
from storylm.config.errors import UsageError
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.inside.heads import look_at_heads
from storylm.evaluation.inside.lens import look_through
from storylm.generation.attention_maps import attention_maps
from storylm.model.store import load
from storylm.report.maps import SHADES, attention_svg


def squares(path: str) -> set[tuple[int, int]]:
    """(row, column) of every square of a path."""
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path)
    assert all(there == back for _, _, there, back in runs)
    return {(int(row), int(first) + step) for first, row, length, _ in runs for step in range(int(length))}


def test_a_map_has_a_square_for_each_weight() -> None:
    weights = torch.rand(9, 9, generator=torch.Generator().manual_seed(0)).tril().pow(3)
    seen = Page(str(attention_svg(weights.tolist(), "<title>")))
    drawn = {}
    for _, given, _ in seen.all("path"):
        drawn |= dict.fromkeys(squares(given["d"]), float(given["opacity"]))
    for row in range(9):
        for column in range(9):
            shade = drawn.pop((row, column), 0.0)
            weight = float(weights[row, column])
            assert (
                shade == 0 if weight < 0.02 else abs(shade - weight**0.5) <= 0.5 / SHADES + 1e-9 or shade == 1 / SHADES
            )
    assert not drawn


def test_the_page_says_what_was_found(tmp_path) -> None:
    folder, out = small_model(tmp_path / "model"), tmp_path / "page.html"
    data = "grammar?validation=4"
    prompt = "Tom <b> sat"
    arguments = [folder, "-p", prompt, "--data", data, "--max-new-tokens", "3", "--neuron", "2:5", "--out", str(out)]
    told = call(inspect, *arguments).stdout
    seen = Page(out.read_text(encoding="utf-8"))
    assert seen.needs_nothing()
    assert not seen.all("b")

    model, tokenizer = load(folder)
    heads = look_at_heads(model, tokenizer, list(Corpus(data)))
    rows = [row[2] for row in seen.all("tr")]
    for place, head in enumerate(heads, 1):
        assert rows[place].startswith(head.name)
        assert f"{head.by_distance:.2f}" in rows[place]
    assert f"from {heads[0].by_distance:.2f} ({heads[0].name})" in told

    (maps,) = seen.all("div", "maps")
    tokens = json.loads(maps[1]["data-tokens"])
    text = seen.all("blockquote")[0][2]
    assert text.startswith(prompt)
    assert len(tokens) == 1 + len(tokenizer.encode(text)) > 1 + len(prompt)
    expected = attention_maps(model, [tokenizer.start_id, *tokenizer.encode(text)])
    first = str(attention_svg(expected[heads[0].layer, heads[0].head].tolist(), f"attention of head {heads[0].name}"))
    assert first in seen.source

    lens = look_through(model, tokenizer, text)
    (shown,) = seen.all("table", "lens")
    assert all(guess.token in shown[2] for guess in lens.guesses[-1] if guess.token.isalpha())
    assert len(seen.all("td", "leads")) == len(tokens)
    assert [row[2] for row in seen.all("h3")] == ["Neuron 2:5"]
    assert len(seen.all("mark")) > 0


def test_mistakes_come_before_any_work(tmp_path) -> None:
    folder = small_model(tmp_path / "model")
    with pytest.raises(UsageError, match=r"--out .*page\.pdf is of no known kind"):
        call(inspect, folder, "--out", str(tmp_path / "page.pdf"))
    with pytest.raises(UsageError, match="neurons 0 to"):
        call(inspect, folder, "--neuron", "1:9999", "--out", str(tmp_path / "page.html"))

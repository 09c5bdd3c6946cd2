"""The scaling study: kinds of words, the fitted law, and a run from end to end."""

import json
from itertools import product
from pathlib import Path

import pytest
import scaling_study
import torch
from study.grids import points
from study.words import KINDS, kinds, nats_by_kind

from storylm.config.model import ModelConfig
from storylm.evaluation.likelihood import evaluate
from storylm.model.transformer import Transformer
from storylm.report.law import Law, fit
from storylm.text.tokenizer import Tokenizer


def test_words_are_told_apart() -> None:
    story = "One day Tim met Lily. Tim said to Tim and Lily, I like Tim's hat."
    words = [(story[first:last], kind) for first, last, kind in kinds(story)]
    assert [word for word, kind in words if kind == "repeated names"] == [" Tim", " Lily"]
    assert [word for word, kind in words if kind == "function words"] == [" to", " and", " I"]
    assert "".join(word for word, _ in words) == story.replace(".", "").replace(",", "")


def test_words_have_the_nats_of_their_tokens() -> None:
    """A text of words and spaces alone has no other nats than those of its words."""
    tokenizer = Tokenizer.load("bytes")
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, width=16, heads=1)).eval()
    stories = ["one day a cat met Tim and the cat told Tim", "the end"]
    found = nats_by_kind(model, tokenizer, [*stories, "çafé"])  # not ASCII: left out
    assert [found[kind]["words"] for kind in KINDS] == [1, 4, 8]
    total = sum(of["words"] * of["nats"] for of in found.values())
    assert total == pytest.approx(evaluate(model, tokenizer, stories).nats, rel=1e-3)


def test_a_law_is_found_again() -> None:
    law = Law(0.3, 8.0, 0.25, 40.0, 0.33)
    losses = [(n, d, law.loss(n, d)) for n, d in product((1e5, 3e5, 1e6, 3e6), (1e6, 2e6, 4e6, 8e6))]
    for floor in (None, 0.3):
        found, error = fit(losses, floor)
        assert error < 1e-5
        assert found.floor == pytest.approx(0.3, rel=1e-3)
        assert (found.a, found.b) == (pytest.approx(0.25, rel=1e-2), pytest.approx(0.33, rel=1e-2))


def test_every_point_is_a_model_that_can_be_trained() -> None:
    grid = points()
    assert len({point.name for point in grid}) == len(grid) >= 20
    for point in grid:
        config = scaling_study.configured("story-1m", point.overrides(steps=1))
        assert config.model.head_dim % 2 == 0


def test_a_run_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scaling_study.DATA, "grammar", "grammar?stories=300&validation=5")
    grid = [point for point in points() if point.grid == "shape" and point.source == "grammar"][2:4]
    monkeypatch.setattr(scaling_study, "points", lambda: grid)
    output = tmp_path / "study.json"
    small = ["train.steps=2", "train.compile=off", "model.width=32", "model.heads=1", "model.vocab_size=300"]
    changes = [argument for setting in small for argument in ("--set", setting)]
    command = ["--source", "grammar", "--grid", "shape", *changes, "--output", str(output)]
    assert scaling_study.main(command) == 0
    runs = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert list(runs) == [point.name for point in grid]
    for run in runs.values():
        assert 3 < run["bits_per_byte"] < 9
        assert run["tokens"] == 2 * 8 * 512
        assert run["nats_per_word"]["function words"]["words"] > 50
    before = output.read_bytes()
    assert scaling_study.main(command) == 0
    assert output.read_bytes() == before  # measured already
    pytest.importorskip("matplotlib")
    assert scaling_study.main(["--output", str(output), "--plot", str(tmp_path / "plots")]) == 0
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["scaling-shape.png"]


def test_laws_say_how_sure_they_are() -> None:
    law = Law(0.15, 8.0, 0.25, 40.0, 0.33)
    grid = product((1e5, 3e5, 1e6, 3e6), (1e6, 2e6, 4e6))
    runs = [
        {
            "grid": "size",
            "source": "grammar",
            "parameters": n,
            "tokens": d,
            "bits_per_byte": law.loss(n, d) * (1 + noise),
        }
        for (n, d), noise in zip(grid, 3 * [0.01, -0.01, 0.0, 0.005], strict=True)
    ]
    free, given = found = scaling_study.laws(runs)
    assert scaling_study.fitted({"laws": found})["grammar"].loss(1e6, 2e6) == pytest.approx(
        law.loss(1e6, 2e6), rel=0.03
    )
    assert (free["floor_given"], given["floor_given"]) == (False, True)
    for found in (free, given):
        assert 0 < found["error"] < 0.02
        for key in ("floor", "a", "b"):
            low, high = found["ranges"][key]
            assert low <= high
    assert given["ranges"]["floor"][0] == given["floor"] == given["ranges"]["floor"][1]

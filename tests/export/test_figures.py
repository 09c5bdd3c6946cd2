"""Figures get into a card if they are of exactly its weights."""

import json
from pathlib import Path

import pytest

from export.conftest import config
from model.model_zoo import random_model
from storylm.config.errors import UsageError
from storylm.evaluation.measure import Measure
from storylm.export.card import model_card
from storylm.export.figures import figures_of
from storylm.export.provenance import Provenance, provenance
from storylm.model.fingerprint import fingerprint

MEASURES = [
    Measure("bits_per_byte", 0.61234, "lower", (0.6, 0.62)).to_json(),
    Measure("mauve", 0.5, "higher", None, 0.9).to_json(),
    Measure("bleu", None, "higher").to_json(),
]
MODEL = random_model(config("llama"))


def evaluation(weights: str, data: str = "tinystories") -> dict:
    return {"model": "x", "weights": weights, "data": data, "convention": "Counted so.", "metrics": MEASURES}


def test_from_an_evaluation_and_from_a_leaderboard(tmp_path: Path) -> None:
    whole = evaluation(fingerprint(MODEL))
    board = {"asked": {"data": "tinystories"}, "convention": "Counted so."}
    board["models"] = [evaluation("other"), {key: whole[key] for key in ("weights", "metrics")}]
    for content in (whole, board):
        (tmp_path / "found.json").write_text(json.dumps(content))
        found = figures_of(MODEL, [], tmp_path / "found.json")
        assert found is not None
        assert (found.stories, found.convention, found.bits_per_byte) == ("tinystories", "Counted so.", 0.61234)
        assert list(found.measures) == MEASURES


def test_those_of_other_weights_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation("another")))
    assert figures_of(MODEL, [tmp_path]) is None
    with pytest.raises(UsageError, match=r"evaluation\.json has no figures of this model: judge it anew"):
        figures_of(MODEL, [], tmp_path / "evaluation.json")
    for content in ("[]", "{", '{"models": 3}', json.dumps({"weights": fingerprint(MODEL), "metrics": [1]})):
        (tmp_path / "evaluation.json").write_text(content)
        assert figures_of(MODEL, [tmp_path, tmp_path / "nowhere"]) is None


def test_those_beside_a_run_are_found_and_stand_in_its_card(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "best"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation(fingerprint(MODEL), "/home/me/mine.txt")))
    assert provenance(folder) == Provenance()
    origin = provenance(folder, MODEL)
    card = model_card(MODEL.config, None, "mine", origin)
    assert "| bits per byte | 0.6123 | 0.6 to 0.62 | | lower |" in card
    assert "| mauve | 0.5 | | 0.9 | higher |" in card
    assert "Counted so." in card
    assert "/home/me" not in card
    assert "value: 0.6123" in card

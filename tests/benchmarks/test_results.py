"""What the committed results show is what they are said to show."""

import importlib
import json
import sys
from pathlib import Path
from statistics import median

import pytest

from storylm.config.load import preset
from storylm.training.run_folder import portable_settings

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_plans_of_three_presets_came_true_within_the_goals() -> None:
    content = json.loads((RESULTS / "plan.json").read_text(encoding="utf-8"))
    assert len({row["preset"] for row in content["results"]}) >= 3
    for row in content["results"]:
        for figure, goal in content["goals"].items():
            assert abs(row[figure]["error"]) <= goal, (row["preset"], figure)


def test_storylm_is_ahead_of_every_peer_on_every_shape() -> None:
    for name in ("train-cpu", "train-cpu-dropout"):
        for shape in json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["shapes"].values():
            speeds = {row["contender"]: row["tokens_per_second"]["median"] for row in shape["contenders"]}
            assert max(speeds, key=speeds.__getitem__) == "storylm"


def test_telling_in_eight_bits_is_far_ahead_of_every_peer_and_costs_next_to_nothing() -> None:
    goals = {
        "1": {"times llama.cpp-q8_0": 1.0, "times transformers-fp32": 5.0},
        "32": {"times ctranslate2-int8": 1.3, "times transformers-fp32": 8.0},
    }
    for name, shape in json.loads((RESULTS / "generate-cpu.json").read_text(encoding="utf-8"))["shapes"].items():
        for batch, wanted in goals.items():
            (ours,) = (row for row in shape[batch]["contenders"] if row["contender"] == "storylm-int8")
            for peer, goal in wanted.items():
                assert ours[peer]["median"] >= goal, (name, batch, peer)
    for model in json.loads((RESULTS / "precision.json").read_text(encoding="utf-8"))["models"].values():
        kinds = {kind: row["bits_per_byte"] for kind, row in model["kinds"].items()}
        assert max(kinds.values()) - kinds["fp32"] <= 0.005


def test_every_damage_is_ranked_by_a_metric_that_is_about_it() -> None:
    metrics = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    about = {
        "swapped words": ("grammar_lints", "eyes_bits_per_byte"),
        "shuffled sentences": ("eyes_bits_per_byte",),
        "broken agreement": ("grammar_lints", "eyes_bits_per_byte"),
        "swapped names": ("kept_names", "eyes_bits_per_byte"),
        "repeated sentences": ("repeated_sentences", "repeated_4_grams", "compression_ratio"),
        "cut off": ("ended_properly",),
        "another story's ending": ("eyes_bits_per_byte",),
    }
    for damage, names in about.items():
        for name in names:
            assert metrics[name]["damages"][damage]["ranked"], (damage, name)


def test_records_are_the_median_of_three_heats_that_kept_to_their_time() -> None:
    """Of code that can be looked up: nothing in it had been changed."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("speedrun-*.json")]
    assert {1, 2, 10} <= {record["minutes"] for record in records}
    for record in records:
        heats = record["heats"]
        assert len(heats) >= 3
        assert max(heat["seconds"] for heat in heats) <= 60 * record["minutes"]
        assert record["bits_per_byte"]["median"] == round(median(heat["bits_per_byte"] for heat in heats), 4)
        assert all(len(commit) == 40 for commit in record["commits"])
        assert {"settings", "machine", "software"} <= set(record)
        assert "stories" in record or record["started"] < "2026-11-22"  # the first records do not say which


@pytest.mark.parametrize("minutes", [1, 2, 10])
def test_the_readme_repeats_the_records(minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what their presets have changed since."""
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    measured = importlib.import_module("measured")
    recipe = measured.recipe_of(measured.read(f"speedrun-{minutes}"))
    assert f"\nstorylm speedrun {recipe} --data " in (DOCS.parent / "README.md").read_text(encoding="utf-8")


def test_a_record_tells_what_its_recipe_changed_and_whether_its_code_had_been(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    measured = importlib.import_module("measured")
    settings = portable_settings(preset("minutes-10")) | {"data.source": "some.txt", "train.minutes": 5.0}
    assert measured.recipe_of({"recipe": "minutes-10", "settings": settings}) == "minutes-10"
    settings["model.layers"] = 6
    assert measured.recipe_of({"recipe": "minutes-10", "settings": settings}) == "minutes-10 model.layers=6"
    assert measured.short("a" * 40) == "a" * 10
    assert measured.short("a" * 40 + "-dirty") == "a" * 10 + "+"

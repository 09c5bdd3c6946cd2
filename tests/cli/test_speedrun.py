"""`storylm speedrun` from the outside: what it judges by, what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest

import storylm
from cli.telling import call, small_model
from storylm.cli.speedrun import speedrun
from storylm.config.errors import UsageError
from storylm.evaluation.corpus import Corpus
from storylm.training.manifest import MANIFEST
from storylm.training.speedrun import Heat, Speedrun

STORIES = ("--data", "grammar?stories=60&validation=6", "--validation", "grammar?validation=2")
TINY = (
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "model.vocab_size=257",
    "model.context=64",
    "data.context=64",
    "tokenizer=bytes",
    "train.batch_size=4",
    "train.compile=off",
)
WIDE = {"env": {"COLUMNS": "200"}}


def heats_of(monkeypatch: pytest.MonkeyPatch, *run: Heat) -> None:
    """Nothing is trained: these are what the heats give. Each leaves what is said of its process."""

    def heat(race: Speedrun, seed: int, judge) -> Heat:
        folder = race.folder / f"heat-{seed}" / "run"
        folder.mkdir(parents=True, exist_ok=True)
        session = {
            "software": {"git": "abc"},
            "machine": {"cpu": "some CPU", "cores": 2, "gpus": []},
            "stories": {},
            "started": "today",
        }
        (folder / MANIFEST).write_text(json.dumps({"sessions": [session]}))
        return run[seed]

    monkeypatch.setattr(Speedrun, "heat", heat)


def test_a_recipe_is_trained_judged_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one test that really trains, for a second: starting Python takes longer, so the heat is always late."""
    monkeypatch.setenv("STORYLM_NATIVE", "0")  # nothing is compiled
    out = tmp_path / "race"
    command = ("story-1m", *TINY, *STORIES, "--minutes", "0.02", "--heats", "1", "--out", str(out))
    done = call(speedrun, *command, **WIDE)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "over the time: seed 0; was the machine busy?"
    results = json.loads((out / "speedrun.json").read_text())
    (heat,) = results["heats"]
    assert (heat["seed"], results["recipe"], results["minutes"]) == (0, "story-1m", 0.02)
    assert f"{heat['bits_per_byte']:.4f} bits per byte, the median of 1" in done.stdout
    network, tokenizer = storylm.load(out / "heat-0/run/checkpoints/last")
    assert tokenizer is not None
    judged = storylm.evaluate(network, tokenizer, Corpus(STORIES[-1]), stride=32)
    assert heat["bits_per_byte"] == round(judged.bits_per_byte, 4)
    monkeypatch.setattr(Speedrun, "_run", None)
    assert call(speedrun, *command, **WIDE).stdout == done.stdout  # the heat was kept


def test_the_median_is_printed_below_a_row_for_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three heats unless asked otherwise; the median is neither the mean nor the first."""
    heats = (Heat(0, 0.9, 59.94, 100, 51_200), Heat(1, 0.7, 58.0, 1234, 631_808), Heat(2, 0.75, 60.0, 90, 46_080))
    heats_of(monkeypatch, *heats)
    out = tmp_path / "race"
    done = call(speedrun, "minutes-1", *STORIES, "--out", str(out), **WIDE)
    assert done.exit_code == 0
    title, *lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert title == "minutes-1, 1 min"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows == [
        ["0", "0.9000", "59.9", "100", "51,200"],
        ["1", "0.7000", "58.0", "1,234", "631,808"],
        ["2", "0.7500", "60.0", "90", "46,080"],  # to the second is not late
    ]
    assert lines[-1] == f"0.7500 bits per byte, the median of 3 (0.7000 to 0.9000); {out / 'speedrun.json'}"
    results = json.loads((out / "speedrun.json").read_text())
    assert results["bits_per_byte"] == {"median": 0.75, "min": 0.7, "max": 0.9}
    assert results["recipe"] == "minutes-1"
    assert [heat["steps"] for heat in results["heats"]] == [100, 1234, 90]


def test_stories_are_judged_to_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By windows that move by half of the context of the model, not of the recipe, whatever it says."""
    model, judged = small_model(tmp_path / "model"), []

    def heat(race: Speedrun, seed: int, judge) -> Heat:
        judged.append(judge(Path(model)))
        raise UsageError("that is all")

    monkeypatch.setattr(Speedrun, "heat", heat)
    with pytest.raises(UsageError, match="that is all"):
        call(speedrun, "minutes-1", "train.device=cpu", *STORIES, "--out", str(tmp_path / "race"))
    network, tokenizer = storylm.load(model)
    assert tokenizer is not None
    corpus = Corpus(STORIES[-1])
    likelihood = {stride: storylm.evaluate(network, tokenizer, corpus, stride=stride) for stride in (32, 64, None)}
    assert judged == [likelihood[32].bits_per_byte]
    # The stories are such that it matters.
    assert likelihood[32].truncated_stories == likelihood[32].stories
    assert likelihood[32].tokens > likelihood[None].tokens
    assert len({each.bits_per_byte for each in likelihood.values()}) == 3


def test_a_heat_that_took_too_long_is_told_and_makes_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figure is shown and written all the same. Here the command gives the time, not the recipe."""
    heats_of(monkeypatch, Heat(0, 0.9, 30.1, 5, 50), Heat(1, 0.8, 30.0, 5, 50), Heat(2, 0.7, 31.0, 5, 50))
    out = tmp_path / "race"
    done = call(speedrun, "minutes-1", *STORIES, "--minutes", "0.5", "--out", str(out), **WIDE)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "over the time: seed 0, 2; was the machine busy?"
    assert "0.8000 bits per byte, the median of 3" in done.stdout
    assert json.loads((out / "speedrun.json").read_text())["minutes"] == 0.5


def test_a_recipe_without_a_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line, before anything is read or written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Speedrun, "heat", None)
    with pytest.raises(UsageError) as refused:
        call(speedrun, "story-1m", *STORIES)
    assert str(refused.value) == "a speedrun is against the clock: say --minutes, or name a recipe that does"
    assert not list(tmp_path.iterdir())

"""The speed of every published preset: which are measured, what is kept, and the table of docs/reproduce.md."""

import doctest
import importlib
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import reproduce

from storylm.config.load import preset, preset_names
from storylm.training.corpus_size import epoch_tokens
from storylm.training.plan import Plan

DOCS = Path(__file__).parents[2] / "docs"
MACHINE = reproduce.machine("cpu")


def row_of(name: str, speed: float = 1000.0) -> dict[str, Any]:
    """What was measured of a preset."""
    measured = {"parameters": 10, "flops_per_token": 1e7, "tokens_per_second": speed, "share_of_peak": 0.1}
    measured |= {"memory_bytes": 10**9, "precision": "bf16", "compiled": True}
    return measured | {"commit": "abc", "machine": MACHINE, "versions": {"torch": "2"}}


@pytest.fixture
def reproducing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/reproducing.py, whose neighbours are found by the folder they are in; the path is as before afterwards."""
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    return importlib.import_module("reproducing")


def test_our_own_presets_are_left_out_and_nothing_else() -> None:
    """A preset of ours says so in its first words."""
    own = {name for name in preset_names() if not set(reproduce.published()) & {name}}
    assert own == {"story-1m", "story-5m", "story-15m", "story-33m", "grammar-1m"} | {
        f"minutes-{minutes}" for minutes in (1, 2, 10, 60)
    }
    assert {"gpt2-33m", "nano-22m", "llama2c-110m"} <= set(reproduce.published())


def test_all_published_presets_are_measured_unless_some_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "planned", lambda name, changes: row_of(name))
    output = tmp_path / "reproduce.json"
    assert reproduce.main(["--output", str(output)]) == 0
    assert list(json.loads(output.read_text())["presets"]) == reproduce.published()


def test_what_was_measured_stays_when_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where measuring one of several is stopped: each is written as soon as it is there."""
    output = tmp_path / "results" / "reproduce.json"
    speeds = {"nano-22m": 1000.0, "gpt2-33m": 2000.0}
    monkeypatch.setattr(reproduce, "planned", lambda name, changes: row_of(name, speeds[name]))
    for name in speeds:
        assert reproduce.main([name, "--output", str(output)]) == 0
    assert "nano-22m: 1,000 tokens/s" in capsys.readouterr().err

    def stopped(name: str, changes: list[str]) -> dict[str, Any]:
        if name == "word-20m":
            raise KeyboardInterrupt
        return row_of(name, 3000.0)

    monkeypatch.setattr(reproduce, "planned", stopped)
    with pytest.raises(KeyboardInterrupt):
        reproduce.main(["gpt2-33m", "word-20m", "--output", str(output)])
    presets = json.loads(output.read_text())["presets"]
    assert {name: row["tokens_per_second"] for name, row in presets.items()} == {"nano-22m": 1000, "gpt2-33m": 3000}


def test_results_of_another_machine_are_not_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "reproduce.json"
    text = json.dumps({"presets": {"nano-22m": row_of("nano-22m") | {"machine": {"processor": "another"}}}})
    output.write_text(text, encoding="utf-8")
    assert reproduce.main(["gpt2-33m", "--output", str(output)]) == 2
    assert "results of another machine" in " ".join(capsys.readouterr().err.split())
    assert output.read_text(encoding="utf-8") == text


def test_a_preset_that_fails_is_told_and_makes_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured all the same; it fails until the preset has been measured."""
    run = subprocess.run
    failing = ["nano-22m"]
    plan = {**row_of(""), "what else": "is said", "tokens_per_second": 1234.5}

    def plans(command: list[str], **how: Any) -> Any:
        if "plan" not in command:  # git, asked for the commit
            return run(command, **how)
        if set(failing) & set(command):
            return SimpleNamespace(returncode=4, stdout="", stderr="a warning\nstorylm: not enough memory\n")
        return SimpleNamespace(returncode=0, stdout=json.dumps(plan), stderr="a warning\n")

    monkeypatch.setattr(subprocess, "run", plans)
    output = tmp_path / "reproduce.json"
    assert reproduce.main(["nano-22m", "paper-1m", "--output", str(output)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "nano-22m: storylm: not enough memory",
        "paper-1m: 1,234 tokens/s",
    ]
    presets = json.loads(output.read_text())["presets"]
    assert presets["nano-22m"] == {"failed": "storylm: not enough memory"}
    assert presets["paper-1m"]["tokens_per_second"] == 1234.5
    assert "what else" not in presets["paper-1m"]
    assert reproduce.main(["paper-1m", "--output", str(output)]) == 1
    failing.clear()
    assert reproduce.main(["nano-22m", "--set", "train.batch_size=8", "--output", str(output)]) == 0
    presets = json.loads(output.read_text())["presets"]
    assert presets["nano-22m"]["changes"] == ["train.batch_size=8"]
    assert "changes" not in presets["paper-1m"]


def test_durations_are_as_their_example_says(reproducing: ModuleType) -> None:
    (example,) = doctest.DocTestFinder().find(reproducing.duration, "duration", reproducing)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_table_has_a_row_for_each_preset_and_a_column_for_each_machine(
    reproducing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preset that failed, or was measured on the other machine, has a row of as many cells, too."""
    failed, elsewhere, *others = reproduce.published()
    machines = {
        "reproduce": {failed: {"failed": "either | or"}} | {name: row_of(name) for name in others},
        "reproduce-fp32": {elsewhere: row_of(elsewhere, 2000.0) | {"precision": "fp32", "changes": ["a.b=3"]}},
    }
    for name, rows in machines.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"presets": rows}), encoding="utf-8")
    monkeypatch.setattr(reproducing, "RESULTS", tmp_path)
    monkeypatch.setattr(sys.modules["measured"], "RESULTS", tmp_path)
    head, rule, *rows = [line for line in reproducing.epochs().splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == [f"`{name}`" for name in reproduce.published()]
    assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    assert all(card.name in head for card in reproducing.CARDS)
    assert [cell.split(", ")[1] for cell in head.split("|")[4:6]] == ["in bf16: tokens/s", "in fp32: tokens/s"]
    for name, row in zip(reproduce.published(), rows, strict=True):
        speed = (
            "failed: either / or |  "
            if name == failed
            else f"1,000, {reproducing.duration(tokens_of(name) / 1000)} |  "
        )
        if name == elsewhere:
            speed = f" | 2,000, {reproducing.duration(tokens_of(name) / 2000)}, a.b=3 "
        assert f"| {speed}|" in row
        assert row.endswith(f"| {reproducing.PUBLISHED.get(name, 'none in bits per byte')} |")


def tokens_of(name: str) -> int:
    return epoch_tokens(preset(name))


def test_passes_are_those_of_the_whole_run(reproducing: ModuleType) -> None:
    """word-20m says its epochs, CS336 its 327,680,000 tokens, and xs-3m nothing."""
    found = [reproducing.passes(preset(name), 10**8) for name in ("word-20m", "cs336-17m", "xs-3m")]
    assert found == [19, pytest.approx(3.2768), 1]


def test_what_was_published_is_of_presets_that_there_are(reproducing: ModuleType) -> None:
    assert set(reproducing.PUBLISHED) <= set(reproduce.published())


def test_what_is_kept_is_what_a_plan_says() -> None:
    assert set(reproduce.KEPT) <= {field.name for field in fields(Plan)}


def test_an_unknown_preset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduce.main(["xs-3n", "--output", str(tmp_path / "results.json")])
    assert "'xs-3n' is no published preset: there are xs-3m" in capsys.readouterr().err

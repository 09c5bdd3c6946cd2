"""The scripts from end to end, with small models; every turn in this process."""

import json
from dataclasses import replace
from pathlib import Path

import batching
import memory
import peers.rounds
import pytest
import train
from peers.ceiling import measure
from peers.child import take
from peers.turn import Turn

from benchmarks.tiny import SMALL, SOURCE

SETTINGS = [argument for setting in (*SMALL, "tokenizer=bpe") for argument in ("--set", setting)]


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def here(turn: Turn, threads: int | None = None) -> dict:
        taken.append(turn.contender)
        folder = Path(turn.folder) / f"{turn.contender}-{len(taken)}"
        folder.mkdir()
        uncompiled = turn.contender.replace("storylm", "storylm-eager") if "-" not in turn.contender else turn.contender
        return take(replace(turn, contender=uncompiled, folder=str(folder)))

    monkeypatch.setattr(peers.rounds, "run_child", here)
    monkeypatch.setattr(memory, "run_child", here)
    monkeypatch.setattr(train, "run_module", lambda *_: measure("cpu", size=64))
    monkeypatch.setenv("STORYLM_CACHE", "")  # restored after the script has set it


@pytest.mark.usefixtures("_here")
def test_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results.json"
    output.write_text(json.dumps({"shapes": {"gpt2-33m": {"batch": 1, "context": 2, "contenders": []}}}))
    small = ["--batch", "3", "--context", "16", "--rounds", "2", "--seconds", "0", "--data", SOURCE, *SETTINGS]
    assert train.main(["xs-3m", *small, "--only", "storylm-eager,plain", "--output", str(output)]) == 0
    shapes = json.loads(output.read_text())["shapes"]
    assert list(shapes) == ["gpt2-33m", "xs-3m"]  # what was there stays
    shape = shapes["xs-3m"]
    ours, plain = shape["contenders"]
    assert (ours["contender"], plain["contender"]) == ("storylm-eager", "plain")
    assert plain["times_baseline"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert shape["ceilings"]["tokens_per_second"] > 0
    assert ours["share_of_ceiling"] == pytest.approx(
        ours["tokens_per_second"]["median"] / shape["ceilings"]["tokens_per_second"], rel=0.02
    )
    assert "| `xs-3m`<br>3 x 16 | **storylm**, not compiled |" in capsys.readouterr().out


def test_who_takes_part() -> None:
    for device in ("cpu", "cuda"):
        names = train.contenders(train.arguments(["--device", device, "--variants", "--nanogpt", "somewhere"]))
        assert len(names) == len(set(names))
        assert {train.BASELINE[device], train.BASELINE[device].replace("plain", "nanogpt"), "storylm"} <= set(names)
        assert all(Turn(name, "xs-3m", (), "", "").flags is not None for name in names)


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.arguments(["gpt5"])
    assert "unknown preset 'gpt5'" in capsys.readouterr().err


@pytest.mark.usefixtures("_here")
def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BASELINE", {"cpu": "plain"})
    output, plot = tmp_path / "memory.json", tmp_path / "memory.png"
    small = ["--batches", "1", "2", "--vocabularies", "300", "600", "--context", "16", "--without-mistral"]
    smaller = [argument for setting in SMALL[1:] for argument in ("--set", setting)]
    memory.main([*small, *smaller, "--output", str(output), "--plot", str(plot)])
    results = json.loads(output.read_text())
    assert {(point["batch"], point["vocab_size"]) for point in results["points"]} == {(1, 600), (2, 600), (2, 300)}
    assert all(point["bytes"] >= 0 for point in results["points"])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_batching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYLM_CACHE", "")
    output = tmp_path / "batching.json"
    arguments = ["--batch", "4", "--contexts", "8", "32", "--repeats", "2", "--seconds", "0.001", "--data", SOURCE]
    assert batching.main([*arguments, "--output", str(output)]) == 0
    rows = json.loads(output.read_text())["results"]
    assert [row["context"] for row in rows] == [8] * 4 + [32] * 4
    assert {row["contender"] for row in rows} == {batching.PEER, *batching.OURS}
    assert all(row["tokens_per_second"]["min"] > 0 for row in rows)


@pytest.mark.slow
def test_processes_of_their_own(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    small = ["--batch", "3", "--context", "16", "--rounds", "1", "--seconds", "0", "--data", SOURCE, *SETTINGS]
    assert train.main(["xs-3m", *small, "--only", "storylm-eager,plain,trainer", "--output", str(output)]) == 0
    rows = json.loads(output.read_text())["shapes"]["xs-3m"]["contenders"]
    assert [row.get("failed") for row in rows] == [None, None, None]

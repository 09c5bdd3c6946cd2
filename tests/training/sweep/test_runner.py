"""Runs of a sweep: each once, so many at a time, and nothing lost by Ctrl-C, a failure or a damaged record."""

import json
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from storylm.config.errors import DataError, UsageError
from storylm.config.load import to_yaml
from storylm.training.run_folder import with_absolute_paths
from storylm.training.sweep import processes
from storylm.training.sweep.grid import read_grid
from storylm.training.sweep.places import Places
from storylm.training.sweep.runner import Sweep
from storylm.training.sweep.source import Listed

STAND_IN = Path(__file__).with_name("stand_in.py")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch) -> None:
    monkeypatch.setattr(
        processes,
        "train_command",
        lambda point, folder: [sys.executable, str(STAND_IN), *point.overrides, "--out", str(folder)],
    )


def points(*rates: str):
    return read_grid(["story-1m", f"optim.lr={','.join(rates)}"]).points()


def swept(folder: Path, *rates: str, jobs: int = 1, progress=lambda line: None) -> Sweep:
    found = Sweep(folder)
    found.run(Listed(points(*rates)), Places(jobs), progress)
    return found


def calls(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "calls.txt").read_text().splitlines()]


def test_every_point_is_run_once_and_remembered(tmp_path) -> None:
    said: list[str] = []
    found = swept(tmp_path / "sweep", "1e-3", "1e-2", progress=said.append)
    assert [row[0] for row in calls(found.folder)] == ["lr=1e-3", "lr=1e-2"]
    entry = json.loads((found.folder / "sweep.json").read_text())["runs"]["lr=1e-2"]
    assert (entry["ended"], entry["varied"]) == ("finished", {"optim.lr": "1e-2"})
    assert entry["bits_per_byte"] == pytest.approx(1.0)
    assert said[1].startswith("lr=1e-3: finished, 2.0000 bits per byte; 1 of 2 done, about ")
    assert said[-1].endswith("2 of 2 done")
    said.clear()
    swept(tmp_path / "sweep", "1e-3", "1e-2", "1e-1", progress=said.append)
    assert [row[0] for row in calls(found.folder)] == ["lr=1e-3", "lr=1e-2", "lr=1e-1"]
    assert said[:2] == ["lr=1e-3: finished before; 1 of 3 done", "lr=1e-2: finished before; 2 of 3 done"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_as_many_at_a_time_as_asked(tmp_path, jobs: int) -> None:
    swept(tmp_path / "sweep", "1e-3", "2e-3", "3e-3", "4e-3", jobs=jobs)
    times = [(float(began), float(ended)) for _, began, ended in calls(tmp_path / "sweep")]
    at_once = max(sum(began <= moment < ended for began, ended in times) for moment, _ in times)
    assert at_once == jobs


def test_a_failure_is_told_and_only_that_is_run_again(tmp_path) -> None:
    found = swept(tmp_path / "sweep", "9", "8", "1e-2")
    assert {name: entry["ended"] for name, entry in found.record.items()} == {
        "lr=9": "failed",
        "lr=8": "diverged",
        "lr=1e-2": "finished",
    }
    assert found.record["lr=9"]["why"] == "storylm: the machine has no such thing"
    assert found.record["lr=8"]["bits_per_byte"] is None
    swept(tmp_path / "sweep", "9", "8", "1e-2")
    assert [row[0] for row in calls(tmp_path / "sweep")] == ["lr=9", "lr=8", "lr=1e-2", "lr=9"]


@pytest.fixture
def _default_signals():
    """Those of whoever runs the tests may be ignored, as `nohup` has it, and then stay so."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_default_signals")
@pytest.mark.parametrize(
    ("number", "raised", "code"),
    [
        (signal.SIGINT, KeyboardInterrupt, None),
        (signal.SIGTERM, SystemExit, 143),
        (signal.SIGHUP, SystemExit, 129),  # the terminal was closed
    ],
)
def test_who_stops_it_loses_nothing(tmp_path, number, raised, code: int | None) -> None:
    folder = tmp_path / "sweep"

    def stop(line: str) -> None:
        if line.startswith("lr=0.5: begun"):
            deadline = time.monotonic() + 10
            while not (folder / "lr=0.5" / "begun").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            signal.raise_signal(number)

    began = time.monotonic()
    with pytest.raises(raised) as ended:
        swept(folder, "1e-2", "0.5", "1e-3", progress=stop)
    assert getattr(ended.value, "code", None) == code
    assert time.monotonic() - began < 20  # it did not wait for the run's end
    assert [row[0] for row in calls(folder)] == ["lr=1e-2", "lr=0.5"]
    assert (folder / "lr=0.5" / "checkpoints").is_dir()  # saved on its way
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    again = swept(folder, "1e-2", "0.5", "1e-3")
    assert [row[0] for row in calls(folder)] == ["lr=1e-2", "lr=0.5", "lr=0.5", "lr=1e-3"]
    assert {entry["ended"] for entry in again.record.values()} == {"finished"}


def test_a_run_that_is_left_behind_is_waited_for_and_what_it_did_counts(tmp_path, capfd) -> None:
    """As where a sweep was killed outright: its training goes on, and holds the lock of the folder."""
    folder = tmp_path / "sweep"
    swept(folder, "1e-2", "2e-2")
    run = folder / "lr=1e-3"
    run.mkdir()
    orphan = (
        "from filelock import FileLock; from pathlib import Path; import sys, time; sys.path.insert(0, sys.argv[2])\n"
    )
    orphan += "from stand_in import write_state; run = Path(sys.argv[1])\nwith FileLock(run / '.lock'):\n"
    orphan += " (run / 'begun').touch(); time.sleep(1.5); write_state(run, 'finished', 1e-3)"
    with subprocess.Popen([sys.executable, "-c", orphan, str(run), str(STAND_IN.parent)]) as process:
        while not (run / "begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        found = swept(folder, "1e-2", "1e-3")
    assert f"waiting for the process that trains in {run}" in capfd.readouterr().err
    assert found.record["lr=1e-3"]["ended"] == "finished"
    assert [row[0] for row in calls(folder)] == ["lr=1e-2", "lr=2e-2"]


def test_where_there_are_no_signals_processes_are_ended(monkeypatch) -> None:
    class Process:
        asked = ""

        def send_signal(self, number):
            raise ValueError(f"unsupported signal: {number}")  # as on Windows

        def terminate(self):
            self.asked = "terminate"

    monkeypatch.setattr(processes, "WINDOWS", True)
    processes.ask_to_stop(process := Process(), signal.SIGINT)  # type: ignore[arg-type]
    assert process.asked == "terminate"


def test_what_cannot_be_is_a_failure_of_that_point_alone(tmp_path) -> None:
    class Drawn:
        total = 3

        def __init__(self) -> None:
            grid = read_grid(["story-1m", "model.width=16", "optim.lr=1e-2,0.5", "model.heads=1,3"])
            one, impossible, other, _ = grid.points()
            self.left, self.told = [one, impossible, other], {}

        def ask(self):
            return self.left.pop(0) if self.left else None

        def tell(self, point, outcome) -> None:
            self.told[point.name] = outcome

    source, said = Drawn(), []
    (tmp_path / "sweep" / "lr=0.5,heads=1").mkdir(parents=True)  # goes on, so it does not take long
    (tmp_path / "sweep" / "sweep.json").write_text('{"runs": {}}')
    found = Sweep(tmp_path / "sweep")
    found.run(source, Places(2), said.append)
    assert {name: outcome.ended for name, outcome in source.told.items()} == {
        "lr=1e-2,heads=1": "finished",
        "lr=1e-2,heads=3": "failed",
        "lr=0.5,heads=1": "finished",
    }
    why = source.told["lr=1e-2,heads=3"].why
    assert "heads" in why
    assert found.record["lr=1e-2,heads=3"]["why"] == why
    assert any(line.startswith(f"lr=1e-2,heads=3: failed ({why})") for line in said)


def test_the_record_says_what_each_run_took(tmp_path) -> None:
    found = swept(tmp_path / "sweep", "9", "1e-2")
    failed, done = found.record.values()
    assert (failed["exit_code"], done["exit_code"]) == (4, 0)
    assert (failed["seconds"], done["steps"], done["tokens"], done["seconds"]) == (None, 7, 700, 1.5)
    assert done["started"].startswith("20")
    again = swept(tmp_path / "sweep", "1e-2")
    assert again.record["lr=1e-2"] == done  # nothing of it is forgotten


def test_a_mistake_on_the_way_leaves_no_process_behind(tmp_path) -> None:
    class Mistaken:
        total, left = 2, points("0.5")

        def ask(self):
            if self.left:
                return self.left.pop()
            raise UsageError("no such setting")

        def tell(self, point, outcome) -> None: ...

    began = time.monotonic()
    with pytest.raises(UsageError, match="no such setting"):
        Sweep(tmp_path / "sweep").run(Mistaken(), Places(2))
    assert time.monotonic() - began < 20


def test_a_damaged_record_is_made_anew_from_the_folders(tmp_path) -> None:
    folder = swept(tmp_path / "sweep", "1e-2", "1e-3").folder
    shutil.rmtree(folder / "lr=1e-3" / "checkpoints")
    for point in points("1e-2", "1e-3"):
        (folder / point.name / "config.yaml").write_text(to_yaml(with_absolute_paths(point.config)))
    (folder / "sweep.json").write_text('{"runs": {')
    said: list[str] = []
    found = Sweep(folder, said.append)
    assert len(said) == 1
    assert "damaged" in said[0]
    assert "settings of 2 runs there: lost are" in said[0]
    assert found.record["lr=1e-2"]["ended"] == "finished"
    assert found.record["lr=1e-2"]["bits_per_byte"] == pytest.approx(1.0)
    assert "ended" not in found.record["lr=1e-3"]
    for name, rate in (("lr=1e-2", "0.01"), ("lr=1e-3", "0.001")):
        entry = found.record[name]
        assert (entry["preset"], entry["varied"]) == ("story-1m", {"optim.lr": rate})
        assert set(entry["settings"]) <= {f"optim.lr={rate}", "train.judge_all=false"}
    found.run(Listed(points("1e-2", "1e-3")), Places(1))
    assert [row[0] for row in calls(folder)] == ["lr=1e-2", "lr=1e-3", "lr=1e-3"]
    assert set(json.loads((folder / "sweep.json").read_text())["runs"]) == {"lr=1e-2", "lr=1e-3"}


def test_a_folder_of_other_things_or_other_settings_is_refused(tmp_path) -> None:
    (tmp_path / "thesis").touch()
    with pytest.raises(UsageError, match="is a file: choose another --out"):
        Sweep(tmp_path / "thesis")
    with pytest.raises(UsageError, match="holds no sweep"):
        Sweep(tmp_path)
    folder = tmp_path / "sweep"
    swept(folder, "1e-2", "1e-3")
    (point,) = [point for point in points("1e-2", "1e-3") if point.name == "lr=1e-2"]
    other = point.config.model_copy(update={"tokenizer": "gpt2"})
    (folder / "lr=1e-2" / "config.yaml").write_text(to_yaml(with_absolute_paths(other)))
    with pytest.raises(UsageError, match=r"other settings .*tokenizer: gpt2 there, bpe here"):
        swept(folder, "1e-2", "1e-3")


def test_mistakes_show_before_anything_runs(tmp_path) -> None:
    for words in (["optim.lrr=1e-3,1e-2"], ["optim.lr=1e-3,quick"]):
        with pytest.raises(UsageError):
            Listed(read_grid(["story-1m", *words]).points())
    with pytest.raises(UsageError, match="a range needs --search N"):
        points("1e-3..1e-2")
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        Listed(read_grid(["story-1m", "data.source=nowhere.txt"]).points())
    with pytest.raises(UsageError, match="each value once"):
        Listed(points("1e-3", "1e-3"))
    assert all(one.name != other.name for one, other in pairwise(points("1e-3", "1e-2", "1e-1")))

"""Heats against the clock: each in a process of its own, kept once it is done, gone on with where it was stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storylm.config.errors import DataError, SetupError, UsageError
from storylm.config.files import write_text
from storylm.config.load import from_yaml, to_yaml
from storylm.training import heat as heats
from storylm.training.heat import RECIPE, RUN, run_heat
from storylm.training.run_folder import with_absolute_paths
from storylm.training.speedrun import SPENT, Heat, Speedrun

QUICK = ("train.steps=null", "train.minutes=0.02", "data.validation=grammar?stories=10&validation=5")


@pytest.fixture
def config(small):
    """A run of 1.2 seconds."""
    return small(*QUICK)


def test_a_heat_is_run_once_and_what_it_took_is_told(config, small, tmp_path, monkeypatch) -> None:
    """The real process: it starts with empty caches, and what counts is at least what it took to start."""
    monkeypatch.setenv("STORYLM_NATIVE", "0")  # compiling takes a busy machine all of the time there is
    race, judged = Speedrun(small(*QUICK, "train.minutes=0.3"), tmp_path / "race"), []

    def judge(model: Path) -> float:
        judged.append(model)
        return 2.5

    began = time.monotonic()
    heat = race.heat(7, judge)
    took = time.monotonic() - began
    assert heat.bits_per_byte == 2.5
    assert heat.seconds > 2
    assert took - 5 < heat.seconds < took + 0.1  # all of it but training the tokenizer; rounded
    folder = tmp_path / "race" / "heat-7"
    state = json.loads((folder / RUN / "checkpoints/last/trainer_state.json").read_text())["values"]["state"]
    assert (heat.steps, heat.tokens) == (state["step"], state["tokens"])
    run = from_yaml((folder / RUN / "config.yaml").read_text(), "")
    assert run.train.seed == 7
    assert run.tokenizer == str(tmp_path / "race" / "tokenizer")
    assert run.train.minutes < 0.3 - 2 / 60  # of which starting Python alone takes two seconds
    assert not (folder / "cache").exists()
    assert judged == [folder / RUN / "checkpoints" / "last"]
    assert Speedrun(race.config, tmp_path / "race").heat(7, judge) == heat
    assert len(judged) == 1
    for other in ("heat-8", "heat-9"):
        shutil.copytree(folder, tmp_path / "race" / other)
    results = race.finish([heat, Heat(8, 2.0, 1.0, 3, 4), Heat(9, 3.0, 1.0, 3, 4)])
    assert results["bits_per_byte"] == {"median": 2.5, "min": 2.0, "max": 3.0}
    assert results["software"]["storylm"]
    assert results["stories"]["validation"]["stories"] == 5
    assert results["settings"]["train.minutes"] == 0.3
    assert results["settings"]["data.validation"] == QUICK[-1].partition("=")[2]
    assert json.loads((tmp_path / "race" / "speedrun.json").read_text()) == results
    manifest = tmp_path / "race" / "heat-9" / RUN / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"platform": "', '"platform": "newer '))
    race.finish([heat, Heat(9, 3.0, 1.0, 3, 4)])
    manifest.write_text(manifest.read_text().replace('"cores": ', '"cores": 1'))
    with pytest.raises(UsageError, match="different machines"):
        race.finish([heat, Heat(9, 3.0, 1.0, 3, 4)])


def test_a_heat_goes_on_in_what_is_left(small, tmp_path, monkeypatch) -> None:
    """Stopped after the first step; the second process has what is left, less what it took to start."""
    from training.runs import At, interrupt

    folder = tmp_path / "heat"
    write_text(folder / RECIPE, to_yaml(small(*QUICK, "train.minutes=0.2")))
    train_run = heats.train_run
    monkeypatch.setattr(heats, "train_run", lambda config, out: train_run(config, out, observers=[At(1, interrupt)]))
    monkeypatch.setattr(heats, "SETTINGS", (*heats.SETTINGS, "train.log_every=1"))  # so that `At` hears of the first
    assert run_heat(folder, time.monotonic() - 0.6) == 130
    before = from_yaml((folder / RUN / "config.yaml").read_text(), "").train.minutes
    assert 0.2 - before >= (0.6 + heats.ENDING) / 60
    assert run_heat(folder, time.monotonic() - 3.0) == 0
    after = from_yaml((folder / RUN / "config.yaml").read_text(), "").train.minutes
    assert after <= max(before - (3.0 + heats.ENDING) / 60, 0.01)  # on a busy machine nothing may be left


def test_a_longer_heat_sets_more_time_aside_to_end_in(monkeypatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    for minutes, seconds in ((1.0, 1.55), (60.0, 4.5)):
        setting, _, left = heats._what_is_left(minutes, 70.0).partition("=")
        assert setting == "train.minutes"
        assert float(left) == pytest.approx(minutes - (30 + seconds) / 60)


@pytest.mark.parametrize(("code", "exit_code"), [(130, 130), (143, 143), (-signal.SIGINT, 130), (-signal.SIGTERM, 143)])
def test_what_a_stopped_process_took_counts(code, exit_code, config, tmp_path, monkeypatch) -> None:
    """Also where it was stopped before it could take care of that itself."""
    race, folder = Speedrun(config, tmp_path / "race"), tmp_path / "heat"
    write_text(folder / SPENT, "40.0")
    script = "import os, sys; code = int(sys.argv[1]); os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **how: popen([sys.executable, "-c", script, str(code)], **how)
    )
    with pytest.raises(SystemExit) as stopped:
        race._run(folder)
    assert stopped.value.code == exit_code
    assert 40 < float((folder / SPENT).read_text()) < 45


def test_who_asks_when_a_heat_is_just_over_is_heard(config, tmp_path, monkeypatch) -> None:
    """The heat is whole; no other one is begun."""
    race, folder = Speedrun(config, tmp_path / "race"), tmp_path / "heat"
    folder.mkdir()
    ask = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getppid(), signal.SIGINT)"
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: popen([sys.executable, "-c", ask], **how))
    with pytest.raises(SystemExit) as stopped:
        race._run(folder)
    assert stopped.value.code == 130
    assert float((folder / SPENT).read_text()) < 45


def test_a_heat_whose_judging_was_stopped_is_only_judged(config, tmp_path, monkeypatch) -> None:
    race = Speedrun(config, tmp_path / "race")

    def stop(model: Path) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race.heat(0, stop)
    spent = (tmp_path / "race" / "heat-0" / SPENT).read_text()
    monkeypatch.setattr(Speedrun, "_run", None)
    heat = race.heat(0, lambda model: 1.5)
    assert (heat.bits_per_byte, heat.seconds) == (1.5, round(float(spent), 1))


def test_a_heat_that_was_killed_begins_anew(config, tmp_path, monkeypatch) -> None:
    race = Speedrun(config, tmp_path / "race")
    folder = tmp_path / "race" / "heat-0"
    begun = []
    names = lambda self, folder: begun.append([path.name for path in folder.iterdir()])  # noqa: E731
    monkeypatch.setattr(Speedrun, "_run", names)
    for name in (RUN, "cache"):
        (folder / name).mkdir(parents=True)
    with pytest.raises(FileNotFoundError):  # since nothing was run
        race.heat(0, lambda model: 0.0)
    assert begun == [[RECIPE]]


def test_what_is_no_speedrun_is_refused(small, config, tmp_path) -> None:
    with pytest.raises(UsageError, match="say --minutes"):
        Speedrun(small("data.validation=grammar"), tmp_path / "a")
    with pytest.raises(UsageError, match="say --validation"):
        Speedrun(small("train.steps=null", "train.minutes=1"), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(DataError, match="nowhere"):
        Speedrun(small(*QUICK, "data.source=nowhere.txt"), tmp_path / "a").heat(0, lambda model: 0.0)
    assert not (tmp_path / "a").exists()
    write_text(tmp_path / "a" / RECIPE, to_yaml(with_absolute_paths(config)))
    with pytest.raises(UsageError, match=r"heats of another recipe \(optim.lr: 0.001 there, 0.5 here\)"):
        Speedrun(small(*QUICK, "optim.lr=0.5"), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").touch()
    with pytest.raises(UsageError, match="not empty and holds no speedrun"):
        Speedrun(config, tmp_path / "b")


def test_a_process_that_fails_is_told(config, small, tmp_path, capfd) -> None:
    race = Speedrun(small(*QUICK, "train.device=cuda:77"), tmp_path / "race")
    with pytest.raises(SetupError, match="heat-0 ended with exit code"):
        race.heat(0, lambda model: 0.0)
    assert "storylm: " in capfd.readouterr().err
    assert not (tmp_path / "race" / "heat-0" / "heat.json").exists()


SCRIPT = """
import sys
from pathlib import Path
from storylm.config.load import from_yaml
from storylm.training.speedrun import Speedrun
config = from_yaml(Path(sys.argv[1]).read_text(), "")
print(Speedrun(config, Path(sys.argv[2])).heat(0, lambda model: 1.0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "number"), [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT), (os.kill, signal.SIGINT)]
)
def test_a_signal_stops_it_and_the_same_command_goes_on(send, number, small, tmp_path) -> None:
    """Ctrl-C comes to both processes, what `kill` sends to the first alone."""
    from storylm.config.load import to_yaml

    recipe, race = tmp_path / "recipe.yaml", tmp_path / "race"
    recipe.write_text(to_yaml(small(*QUICK, "train.minutes=0.5", "train.log_every=1")))
    command = [sys.executable, "-c", SCRIPT, str(recipe), str(race)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = race / "heat-0" / RUN / "metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None
        time.sleep(0.1)
    send(process.pid, number)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + number, said
    assert "the same command goes on" in said
    before, spent = metrics.read_text(), race / "heat-0" / SPENT
    seconds = float(spent.read_text())
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert metrics.read_text().startswith(before)  # not begun anew
    assert float(spent.read_text()) >= seconds

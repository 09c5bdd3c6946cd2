"""Other people's tools: what they are handed, and that a resumed run goes on where it was."""

import math
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from storylm.config.errors import SetupError
from storylm.training.observers import Observers, build_observers
from storylm.training.trackers import Tracker, open_trackers
from training.told import evaluation_record, step_record

TRAIN = {
    "train/loss": 2.5,
    "train/lr": 1e-3,
    "train/gradient_norm": 0.75,
    "train/tokens_per_second": 41234.0,
    "train/tokens": 640,
    "train/epoch": 0.02,
    "train/skipped": 0,
    "train/share_of_peak": 0.3141,
    "train/memory_bytes": 1_234_567_890,
}
VALIDATION = {"validation/loss": 2.0, "validation/perplexity": 7.389, "validation/bits_per_byte": 0.731}


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


class FakeWandb(ModuleType):
    """As much of wandb as is used, which remembers it all."""

    class Error(Exception):
        """What wandb raises without a login or a network."""

    def __init__(self, connected: bool = True):
        super().__init__("wandb")
        self.connected, self.opened, self.logged, self.finished = connected, [], [], 0

    def init(self, **options):
        self.opened.append(options)
        if not self.connected and options.get("mode") != "offline":
            raise self.Error("no API key")
        return SimpleNamespace(log=self._log, finish=self._finish)

    def _log(self, numbers, step):
        self.logged.append((numbers, step))

    def _finish(self):
        self.finished += 1


class FakeTrackio(FakeWandb):
    def __init__(self):
        super().__init__()
        self.log, self.finish = self._log, self._finish


def test_each_number_goes_by_its_name_and_those_that_are_not_finite_not_at_all() -> None:
    logged: list[tuple] = []
    ended: list[bool] = []
    tracker = Tracker(lambda numbers, step: logged.append((numbers, step)), lambda: ended.append(True))
    tracker.after_step(step_record(10))
    tracker.after_evaluation(evaluation_record(10))
    tracker.after_step(step_record(20, loss=math.nan, gradient_norm=math.inf))
    assert logged[:2] == [(TRAIN, 10), (VALIDATION, 10)]
    tracker.after_step(step_record(30, share_of_peak=None, memory_bytes=None))
    assert logged[3][0].keys() == TRAIN.keys() - {"train/share_of_peak", "train/memory_bytes"}
    assert "train/loss" not in logged[2][0]
    assert "train/gradient_norm" not in logged[2][0]
    assert logged[2][0]["train/lr"] == 1e-3
    assert ended == []
    tracker.close()
    tracker.close()
    assert ended == [True]


def test_no_tracker_is_opened_unasked(small, tmp_path) -> None:
    assert open_trackers(small(), tmp_path, 0) == []
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_the_numbers_and_after_a_resume_no_step_twice(small, tmp_path) -> None:
    config = small("track.tensorboard=true")
    threads = threading.active_count()
    (tracker,) = open_trackers(config, tmp_path, 0)
    for step in (10, 20, 30):
        tracker.after_step(step_record(step, loss=step / 10))
    tracker.after_evaluation(evaluation_record(20))
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(10, 1.0), (20, 2.0), (30, 3.0)]  # while it runs
    tracker.close()
    assert threading.active_count() == threads  # the writer's own has ended
    shown = scalars(tmp_path / "tensorboard")
    assert shown.keys() == TRAIN.keys() | VALIDATION.keys()
    assert shown["validation/bits_per_byte"] == [(20, pytest.approx(0.731))]
    assert shown["validation/loss"] == [(20, 2.0)]
    assert shown["train/lr"][0] == (10, pytest.approx(1e-3))
    assert shown["train/tokens"][1] == (20, 1280.0)

    (tracker,) = open_trackers(config, tmp_path, 20)
    tracker.after_step(step_record(30, loss=7.0))
    tracker.close()
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(10, 1.0), (20, 2.0), (30, 7.0)]


@pytest.mark.parametrize(
    ("name", "setting"), [("tensorboard", "tensorboard=true"), ("wandb", "wandb=tales"), ("trackio", "trackio=tales")]
)
def test_a_missing_package_is_said_at_the_start_with_what_to_install(
    name, setting, small, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SetupError) as caught:
        build_observers(small(f"track.{setting}"), tmp_path, 0)
    assert str(caught.value) == f"track.{name} needs the package {name}: pip install 'storylm[track]'"
    assert list(tmp_path.iterdir()) == []


def test_no_tracker_is_opened_where_another_one_is_missing(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SetupError, match="needs the package wandb"):
        open_trackers(small("track.tensorboard=true", "track.wandb=tales"), tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", '{"id": ', "[]", "{}", '{"id": 7}', '{"id": ""}', "\xff"])
def test_a_damaged_name_of_the_run_is_made_anew_with_a_warning(text, small, tmp_path, monkeypatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "tracking.json").write_text(text, encoding="latin-1")
    with pytest.warns(UserWarning, match=r"tracking\.json is damaged .* the trackers show this run as a new one"):
        open_trackers(small("track.wandb=tales"), tmp_path, 0)
    open_trackers(small("track.wandb=tales"), tmp_path, 10)  # whole again: no warning
    first, second = wandb.opened
    assert first["id"] == second["id"]
    assert len(first["id"]) == 8


def test_wandb_is_begun_told_and_finished_and_finds_the_run_again(small, tmp_path, monkeypatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = small("track.wandb=tales")
    folder = tmp_path / "small-run"
    for first_step, step in ((0, 10), (10, 20)):
        observers = Observers(open_trackers(config, folder, first_step))
        observers.after_step(step_record(step, tokens=640, epoch=0.02))
        observers.after_evaluation(evaluation_record(step))
        observers.close()
        observers.close()
    assert wandb.logged == [(TRAIN, 10), (VALIDATION, 10), (TRAIN, 20), (VALIDATION, 20)]
    assert wandb.finished == 2
    first, second = wandb.opened
    assert first == second
    assert first["id"]
    assert (first["project"], first["name"], first["resume"]) == ("tales", "small-run", "allow")
    assert first["config"]["model"]["width"] == 32
    assert first["config"]["train"]["sample_prompts"] == ["Once"]  # plain values, as JSON has them
    open_trackers(config, tmp_path / "elsewhere" / "small-run", 0)
    assert wandb.opened[2]["id"] != first["id"]


def test_wandb_without_a_network_writes_to_the_run_folder(small, tmp_path, monkeypatch) -> None:
    wandb = FakeWandb(connected=False)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tracker,) = open_trackers(small("track.wandb=tales"), tmp_path, 0)
    tracker.after_step(step_record(10))
    assert wandb.opened[1] == wandb.opened[0] | {"mode": "offline"}
    assert wandb.opened[1]["dir"] == str(tmp_path)
    assert wandb.logged == [(TRAIN, 10)]


def test_trackio_is_begun_told_and_finished_and_finds_the_run_again(small, tmp_path, monkeypatch) -> None:
    trackio = FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    for first_step, step in ((0, 10), (10, 20)):
        (tracker,) = open_trackers(small("track.trackio=tales"), tmp_path / "small-run", first_step)
        tracker.after_evaluation(evaluation_record(step))
        tracker.close()
    assert trackio.logged == [(VALIDATION, 10), (VALIDATION, 20)]
    assert trackio.finished == 2
    first, second = trackio.opened
    assert first == second
    assert (first["project"], first["resume"]) == ("tales", "allow")
    assert first["name"].startswith("small-run-")


def test_a_tracker_that_fails_later_does_not_end_the_run(small, tmp_path, monkeypatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    observers = Observers(open_trackers(small("track.wandb=tales"), tmp_path, 0))
    wandb.logged = None
    observers.after_step(step_record(10))
    observers.close()
    assert wandb.finished == 1

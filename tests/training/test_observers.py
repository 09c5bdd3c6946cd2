"""Several observers as one: who may fail, who may not, and what is said of it."""

import pytest

from storylm.config.errors import SetupError
from storylm.training.observers import Observer, Observers, build_observers
from training.told import evaluation_record, step_record

TELLINGS = {
    "after_step": (step_record(1),),
    "after_evaluation": (evaluation_record(1),),
    "after_sample": (1, "Once."),
    "message": ("hello",),
    "before_checkpoint": (),
    "close": (),
}


class Witness(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def __getattribute__(self, name: str):
        if name in TELLINGS:
            return lambda *arguments: self.told.append((name, *arguments))
        return super().__getattribute__(name)


class Failing(Observer):
    """Fails at every telling but messages."""

    def __init__(self, error: Exception):
        self.error = error

    def __getattribute__(self, name: str):
        if name in TELLINGS and name != "message":
            return self._fail
        return super().__getattribute__(name)

    def _fail(self, *arguments: object) -> None:
        raise self.error


class Essential(Failing):
    essential = True


def messages(witness: Witness) -> list[str]:
    return [told[1] for told in witness.told if told[0] == "message"]


@pytest.mark.parametrize("method", TELLINGS)
def test_everything_is_told_to_all_in_order(method) -> None:
    order: list[str] = []
    witnesses = [Witness(), Witness()]
    for name, witness in zip("ab", witnesses, strict=True):
        witness.told = type("Log", (list,), {"append": lambda self, told, name=name: order.append((name, *told))})()
    getattr(Observers(witnesses), method)(*TELLINGS[method])
    assert order == [("a", method, *TELLINGS[method]), ("b", method, *TELLINGS[method])]


@pytest.mark.parametrize("method", TELLINGS)
def test_a_plain_observer_hears_everything_and_does_nothing(method) -> None:
    assert getattr(Observer(), method)(*TELLINGS[method]) is None
    assert not Observer.essential


@pytest.mark.parametrize("method", [name for name in TELLINGS if name != "message"])
def test_a_failure_is_said_once_and_keeps_no_one_from_hearing(method) -> None:
    witness = Witness()
    observers = Observers([Failing(RuntimeError("no ink")), witness])
    for _ in range(3):
        getattr(observers, method)(*TELLINGS[method])
    assert [told[0] for told in witness.told].count(method) == 3
    assert messages(witness) == ["Failing failed, the run goes on: RuntimeError: no ink"]


def test_each_that_fails_is_named_and_a_message_for_people_stands_alone() -> None:
    witness = Witness()
    observers = Observers([Failing(SetupError("install ink")), witness, Failing(ValueError("bad"))])
    observers.after_step(step_record(1))
    observers.close()
    assert messages(witness) == ["install ink", "Failing failed, the run goes on: ValueError: bad"]


def test_one_that_fails_at_messages_too_does_not_end_the_run() -> None:
    class Mute(Observer):
        def message(self, text: str) -> None:
            raise OSError("closed")

    witness = Witness()
    Observers([Mute(), witness]).message("hello")
    assert sorted(messages(witness)) == ["Mute failed, the run goes on: OSError: closed", "hello"]


@pytest.mark.parametrize("method", [name for name in TELLINGS if name != "message"])
def test_the_failure_of_an_essential_one_is_raised_after_all_were_told(method) -> None:
    first, second, witness = SetupError("first"), SetupError("second"), Witness()
    with pytest.raises(SetupError) as caught:
        getattr(Observers([Essential(first), Essential(second), witness]), method)(*TELLINGS[method])
    assert caught.value is first
    assert witness.told == [(method, *TELLINGS[method])]


def test_ctrl_c_is_no_failure_of_an_observer() -> None:
    class Interrupted(Observer):
        def after_step(self, record) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers([Interrupted()]).after_step(step_record(1))


def test_a_run_is_watched_by_its_files_before_their_plot_and_leaves_nothing_unasked(small, tmp_path) -> None:
    observers = build_observers(small(), tmp_path, 0)
    names = [type(observer).__name__ for observer in observers]
    assert names == ["MetricsFile", "SamplesFile", "LossPlot", "ConsoleObserver"]
    assert [observer.essential for observer in observers] == [True, True, False, False]
    Observers(observers).before_checkpoint()
    Observers(observers).close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_metrics_cannot_be_written_stops_and_closes_the_rest(small, tmp_path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    observers = Observers(build_observers(small(), tmp_path, 0))
    with pytest.raises(SetupError, match=r"metrics\.jsonl"):
        observers.after_step(step_record(1))
    observers.after_sample(1, "Once.")
    observers.close()
    assert "Once." in (tmp_path / "samples.md").read_text()

"""A run of two epochs with dropout, what it leaves undisturbed, and where the figures of the full tests go."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reliability.lives import end_all
from reliability.report import RECORD, record
from reliability.rows import ROWS
from storylm.config.files import write_text
from storylm.config.load import resolve, to_yaml
from storylm.config.schema import RunConfig
from storylm.data.prepare import prepare
from storylm.model.native.build import library
from storylm.training.run import train_run
from training.runs import SMALL, record_of

TWO_EPOCHS = (
    "model.family=gpt2",
    "model.dropout=0.2",
    "train.steps=null",
    "train.epochs=2",
    "train.batch_size=32",
    "train.log_every=1",
    "train.eval_every=8",
    "train.sample_every=8",
    "train.save_every=3",
)


@pytest.fixture(autouse=True, scope="session")
def _one_arithmetic(_own_cache: None) -> None:
    """All processes compute with the kernels of `model.native`, or, where they cannot be built in time, none does."""
    if library() is None:
        os.environ["STORYLM_NATIVE"] = "0"


@pytest.fixture(autouse=True)
def _ctrl_c_works() -> Iterator[None]:
    """Also where these tests run in the background of a shell, which has SIGINT ignored there; so do runs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; those that are killed do wait."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`figures("kill", count, lost=0, ...)` records what a full test found, where it is asked to."""
    began = time.monotonic()

    def tell(name: str, count: int, **found: Any) -> None:
        ROWS[name].result.format(count=count, **found)  # all there, or it is an error in the fast test already
        if RECORD in os.environ and request.node.get_closest_marker("slow"):
            record(name, time.monotonic() - began, {"count": count, **found})

    return tell


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty stories, prepared: to read the grammar takes longer than to train on them."""
    folder = tmp_path_factory.mktemp("stories") / "prepared"
    prepare("grammar?stories=40&validation=5", "bpe", folder, vocab_size=320, workers=1)
    return folder


@pytest.fixture(scope="session")
def two_epochs(stories: Path) -> RunConfig:
    """The settings of a run of 23 steps, two epochs, with dropout."""
    return resolve(None, None, [*SMALL, *TWO_EPOCHS, f"data.source={stories}"]).config


@pytest.fixture(scope="session")
def config_file(two_epochs: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("settings") / "two-epochs.yaml"
    write_text(path, to_yaml(two_epochs))
    return path


@pytest.fixture(scope="session")
def undisturbed(two_epochs: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run of two epochs leaves if nothing befalls it."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train_run(two_epochs, folder).reason == "finished"
    return record_of(folder)

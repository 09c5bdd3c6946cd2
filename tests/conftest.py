"""Shared fixtures: where the real stories and reference tokenizers are, and small stories made here."""

import lzma
import os
import signal
from pathlib import Path

# One thread to a process: the models are small and pytest-xdist runs several processes. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

settings.register_profile("storylm", deadline=None)  # a first example may load a tokenizer, and machines are busy
settings.load_profile("storylm")

# What a shell runs in the background ignores Ctrl-C, and so would every process that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("STORYLM_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real stories and reference tokenizers (`STORYLM_SHARED`, default `../shared`)."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real stories at {SHARED}: set STORYLM_SHARED to the folder that has data/ and reference/")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared stories are kept for this session of tests and no longer; nothing of the user's is used."""
    os.environ["STORYLM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def read_stories(path: Path) -> list[str]:
    """The stories of one xz file, parted by lines of `<|endoftext|>`."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    return [story.strip() for story in text.split("<|endoftext|>") if story.strip()]


@pytest.fixture(scope="session")
def train_stories(shared: Path) -> list[str]:
    return read_stories(shared / "data" / "tinystories-train.txt.xz")


@pytest.fixture(scope="session")
def valid_stories(shared: Path) -> list[str]:
    return read_stories(shared / "data" / "tinystories-valid.txt.xz")

"""A run so small that a test can afford many of them, what may happen to it, and what it leaves."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storylm.training.observers import Observer, StepRecord

SMALL = (
    "name=small",
    "data.source=grammar?stories=300&validation=5",
    "model.family=llama",
    "model.vocab_size=320",
    "model.context=64",
    "model.layers=2",
    "model.width=32",
    "model.heads=2",
    "train.batch_size=4",
    "train.steps=12",
    "train.log_every=3",
    "train.eval_every=6",
    "train.eval_stories=3",
    "train.sample_every=6",
    "train.save_every=4",
    "train.compile=off",
    "train.precision=fp32",
    "train.sample_prompts=[Once]",
    "optim.warmup_steps=2",
)


class At(Observer):
    """Does something once a step is reached."""

    def __init__(self, step: int, action: Callable[[], Any]):
        self.step, self.action = step, action

    def after_step(self, record: StepRecord) -> None:
        if record.step == self.step:
            self.action()


def interrupt() -> None:
    """What Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


def die() -> None:
    """What no program can catch."""
    os.kill(os.getpid(), signal.SIGKILL)


TIMINGS = ("seconds", "tokens_per_second", "time", "share_of_peak", "memory_bytes")


def record_of(folder: Path) -> dict[str, Any]:
    """What a run left behind, timings apart: its files by content."""
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    state = json.loads((folder / "checkpoints/last/trainer_state.json").read_text())
    return {
        "metrics": [{key: value for key, value in line.items() if key not in TIMINGS} for line in metrics],
        "samples": (folder / "samples.md").read_text(),
        "last": (folder / "checkpoints/last/model.safetensors").read_bytes(),
        "best": (folder / "checkpoints/best/model.safetensors").read_bytes(),
        "optimizer": (folder / "checkpoints/last/trainer_state.safetensors").read_bytes(),
        "state": {key: value for key, value in _flat(state).items() if not key.endswith("seconds")},
    }


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {name: leaf for key, value in tree.items() for name, leaf in _flat(value, f"{prefix}/{key}").items()}

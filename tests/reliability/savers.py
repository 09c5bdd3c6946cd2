"""Two ways to save a large state again and again, and whether what they leave can be used: ours, and one in place."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reliability.lives import Life, Tell
from storylm.config.errors import CheckpointError
from storylm.training.checkpoint import Checkpoints, TrainerState

MODEL, STATE, VALUES = "model.safetensors", "trainer_state.safetensors", "trainer_state.json"


def large(step: int, megabytes: int) -> dict[str, torch.Tensor]:
    """Tensors that show the step that they are of, from the first byte to the last."""
    return {"weight": torch.full((megabytes * 2**18,), float(step))}


def save_safely(folder: Path, step: int, megabytes: int) -> None:
    """As a run does."""
    model = large(step, megabytes)
    state = TrainerState(step, {"state": {}}, large(step, megabytes))
    Checkpoints(folder, lambda target: save_file(model, target / MODEL)).save(state)


def save_in_place(folder: Path, step: int, megabytes: int) -> None:
    """As scripts do: over what was there."""
    folder.mkdir(exist_ok=True)
    save_file(large(step, megabytes), folder / MODEL)
    save_file(large(step, megabytes), folder / STATE)
    (folder / VALUES).write_text(json.dumps({"step": step}))


def found_safely(folder: Path) -> int | None:
    """The step of the checkpoint that a run would go on from; None where it holds not what was saved then."""
    try:
        loaded = Checkpoints(folder, lambda target: None).latest()
    except CheckpointError:
        return None
    if loaded is None:
        return None
    same = _are_of(loaded.state.step, load_file(loaded.folder / MODEL), loaded.state.tensors)
    return loaded.state.step if same else None


def found_in_place(folder: Path) -> int | None:
    """The same of what `save_in_place` wrote."""
    try:
        step = json.loads((folder / VALUES).read_text())["step"]
        same = _are_of(step, load_file(folder / MODEL), load_file(folder / STATE))
    except (OSError, ValueError, SafetensorError):
        return None
    return step if same else None


def _are_of(step: int, *files: dict[str, torch.Tensor]) -> bool:
    return all(tensors["weight"].eq(float(step)).all() for tensors in files)


def for_ever(tell: Tell, save: Callable[[Path, int, int], None], folder: Path, first: int, megabytes: int) -> None:
    """Save steps `first`, `first` + 1, ... until killed."""
    for step in range(first, first + 100_000):
        tell("saving", step, time.monotonic())
        save(folder, step, megabytes)
        tell("saved", step, time.monotonic())


def losses(
    save: Callable[[Path, int, int], None],
    found: Callable[[Path], int | None],
    folder: Path,
    kills: int,
    megabytes: int,
    chance: random.Random,
) -> int:
    """How many of so many kills inside a save leave nothing to go on with, or less than was saved before."""
    lost = done = 0
    step, seconds = 0, 0.1
    while done < kills:
        life = Life(for_ever, save, folder, step + 1, megabytes)
        life.wait_for("saved")
        time.sleep(chance.uniform(0, 2 * seconds))
        life.kill(signal.SIGKILL)
        assert life.end() == -signal.SIGKILL, life.output
        began, saved = life.last("saving", 0), life.last("saved", 0)
        first = [told[2] for told in life.events[:2]]
        seconds = first[1] - first[0]
        step = max(began, saved)
        if began > saved:
            done += 1
            lost += found(folder) not in (saved, began)
    return lost

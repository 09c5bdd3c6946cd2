"""Checkpoints: written so that a crash at any instant leaves an intact one, and verified before use.

    checkpoints/last            the newest
    checkpoints/previous        the one before, should `last` turn out damaged
    checkpoints/best            the best by validation        } hard links to the files of `last`
    checkpoints/step-00001000   kept for good                 } as it was then, where links work

Each is a model folder plus the trainer's state and a manifest with the SHA-256 of every file.
"""

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from storylm.config.errors import CheckpointError, SetupError
from storylm.config.files import TEMPORARY, atomic_folder, link_or_copy, sweep, sync_folder, sync_tree
from storylm.training.seal import damage, read_seal, seal
from storylm.training.state import TrainerState, optimizer_tensors, restore_optimizers

__all__ = ["Checkpoints", "Loaded", "TrainerState", "optimizer_tensors", "restore_optimizers"]


@dataclass(frozen=True)
class Loaded:
    """A verified checkpoint: its folder (a model folder, load the weights from there) and the trainer's state."""

    folder: Path
    state: TrainerState


class Checkpoints:
    """The checkpoints of one run. `write_model` fills a folder with the files of the model as it is now.

    >>> checkpoints = Checkpoints(run / "checkpoints", lambda folder: write_model_files(model, tokenizer, folder))
    ...                                                                             # doctest: +SKIP
    >>> checkpoints.save(TrainerState(step=100, values={...}, tensors={...}))       # doctest: +SKIP
    >>> checkpoints.latest().state.step                                             # doctest: +SKIP
    100
    """

    def __init__(self, folder: Path, write_model: Callable[[Path], None]):
        self.folder, self.write_model = Path(folder), write_model

    def save(self, state: TrainerState, *, best: bool = False, keep: bool = False) -> Path:
        """Write `last` (and `best`, and one kept for good) whole or not at all; returns the folder of `last`.

        Raises `SetupError` where the disk is full or fails; what was saved before is then still there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._temporary() as fresh:
                self.write_model(fresh)
                state.write(fresh)
                seal(fresh, state.step)
                sync_tree(fresh)
                # `last` comes last: after a crash in between, the steps that led to `best` are run again
                # and lead to the same one. The other way round it would never be written.
                if best:
                    self._link(fresh, self.folder / "best")
                if keep:
                    self._link(fresh, self.folder / f"step-{state.step:08d}")
                self._rotate(fresh)
        except (OSError, SafetensorError) as error:
            saved = any((self.folder / name).exists() for name in ("last", "previous"))
            before = "; the checkpoint saved before is still whole" if saved else ""
            raise SetupError(
                f"cannot save the checkpoint of step {state.step} in {self.folder}: {error}. Free some space there "
                f"and run again{before}"
            ) from error
        return self.folder / "last"

    def latest(self) -> Loaded | None:
        """The newest intact checkpoint, every byte verified; None where none was ever completed.

        Where `last` is damaged, the next one that is intact is returned with a warning. Raises
        `CheckpointError` where there are checkpoints but no intact one.
        """
        damaged: list[str] = []
        for folder in self._candidates():
            problem = damage(folder)
            if problem is None:
                loaded = Loaded(folder, TrainerState.read(folder))
                if damaged:
                    warnings.warn(
                        f"DAMAGED CHECKPOINT: {'; '.join(damaged)}. Going on from {folder.name}, "
                        f"step {loaded.state.step}, instead",
                        stacklevel=2,
                    )
                if not folder.name.startswith(TEMPORARY):
                    sweep(self.folder)
                return loaded
            if not folder.name.startswith(TEMPORARY):  # an unfinished save is no damage
                damaged.append(f"{folder.name}: {problem}")
        if damaged:
            raise CheckpointError(f"no checkpoint in {self.folder} is intact ({'; '.join(damaged)}): start anew")
        return None

    def _candidates(self) -> list[Path]:
        """Every folder that may hold a checkpoint: `last`, `previous`, then the rest, the newest step first."""
        folders = [path for path in self.folder.glob("*") if path.is_dir()] if self.folder.is_dir() else []

        def rank(folder: Path) -> tuple[int, int, bool]:
            first = {"last": 0, "previous": 1}.get(folder.name, 2)
            return (first, -(read_seal(folder) or {}).get("step", -1), folder.name.startswith(TEMPORARY))

        return sorted(folders, key=rank)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        # A fresh name every time: even a leftover may be the last good one.
        folder = self.folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _link(self, source: Path, target: Path) -> None:
        with atomic_folder(target) as temporary:
            for file in source.iterdir():
                link_or_copy(file, temporary / file.name)

    def _rotate(self, fresh: Path) -> None:
        """fresh -> last -> previous -> gone; a complete one stands at every instant, and so does its manifest."""
        last, previous, trash = self.folder / "last", self.folder / "previous", Path(f"{fresh}.previous")
        if last.exists():
            if previous.exists():
                os.replace(previous, trash)
            os.replace(last, previous)
        os.replace(fresh, last)
        sync_folder(self.folder)
        shutil.rmtree(trash, ignore_errors=True)

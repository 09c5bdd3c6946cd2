"""Out of memory, answered: with the largest batch that does fit, and settings that make the same steps of it."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from storylm.config.errors import SetupError
from storylm.config.schema import RunConfig
from storylm.training.learner import Learner
from storylm.training.memory import available_memory
from storylm.training.needs import training_bytes
from storylm.training.random_batches import RandomBatches

# What the allocators of torch and C++ say that raise something more general than `torch.OutOfMemoryError`.
SIGNS = ("DefaultCPUAllocator", "out of memory", "bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED", "Cannot allocate memory")


class OutOfMemoryError(SetupError):
    """A step did not fit. `settings` are the overrides of train.batch_size and accumulation that do, if any."""

    def __init__(self, message: str, settings: str = ""):
        super().__init__(message)
        self.settings = settings

    def in_run(self, folder: Path) -> SetupError:
        """The same, and how the run in `folder` goes on: all that was saved before is whole."""
        return SetupError(f"{self}; go on with: storylm train --resume {folder} {self.settings}".rstrip())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


@contextmanager
def answered(learner: Learner, config: RunConfig) -> Iterator[None]:
    """Raises `OutOfMemoryError` where an allocation fails in a step of `learner`, which is then of no more use.

    On one device the batch that fits has been tried when the message names it, with real steps. Several devices
    would wait for each other; there the half is proposed.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _let_go(error, learner)
    train, tried = config.train, learner.ranks.size == 1
    fits = next((rows for rows in smaller_batches(config) if not tried or _fits(learner, config, rows)), None)
    place = f"out of memory at train.batch_size={train.batch_size} on {learner.model.device.type}"
    if fits is None:
        raise OutOfMemoryError(
            f"{place}: not even one row of {config.row_length:,} tokens fits; set a shorter data.context, choose a "
            f"smaller model, or free some memory"
        )
    settings = settings_for(config, fits)
    raise OutOfMemoryError(f"{place}: {'use' if tried else 'try'} {settings} ({_same(config)})", settings)


def memory_warning(config: RunConfig, precision: str, device: torch.device) -> str | None:
    """A line where training will hardly fit: Linux kills a process that takes too much instead of telling it.

    By the estimate of `training.needs`; None where it fits, is not known, or the device itself refuses in time.
    """
    available = available_memory(device)
    if device.type == "cuda" or available is None:
        return None

    def needed(rows: int) -> int:
        return training_bytes(config, rows, precision, device)

    train = config.train
    if needed(train.batch_size) <= available:
        return None
    fits = next((rows for rows in smaller_batches(config) if needed(rows) <= available), None)
    advice = f"use {settings_for(config, fits)} ({_same(config)})" if fits else "choose a smaller model or data.context"
    return (
        f"warning: training at train.batch_size={train.batch_size} takes about {needed(train.batch_size) / 1e9:.1f} GB "
        f"and {available / 1e9:.1f} GB are free; the system may end the run. To be safe, {advice}"
    )


def smaller_batches(config: RunConfig) -> Iterator[int]:
    """Rows of smaller batches of which whole numbers make the same step, each at most two thirds of the one before.

    32, 16, 8, 4, 2, 1 of 64; 3, 2, 1 of 6.
    """
    rows, total = config.train.batch_size, config.train.batch_size * config.train.accumulation
    while rows > 1:
        rows = next(size for size in range(2 * rows // 3, 0, -1) if total % size == 0)
        yield rows


def settings_for(config: RunConfig, rows: int) -> str:
    """Overrides for steps of as many rows as now, `rows` at a time."""
    total = config.train.batch_size * config.train.accumulation
    return f"train.batch_size={rows} train.accumulation={total // rows}"


def _same(config: RunConfig) -> str:
    return f"the same {config.train.batch_size * config.train.accumulation:,} rows a step"


def _let_go(error: BaseException | None, learner: Learner) -> None:
    """Free what the failed step held: the frames that an error remembers keep their tensors alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    for optimizer in learner.optimizers:
        optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if learner.model.device.type == "cuda":
        torch.cuda.empty_cache()


def _fits(learner: Learner, config: RunConfig, rows: int) -> bool:
    """Whether a step on two micro-batches of so many rows gets through, and some to spare.

    Two, as in the second one gradients exist; a quarter more, as memory is in pieces, and judging and saving need some.
    """
    batches = RandomBatches(config, config.row_length, rows + rows // 4)
    compiled, learner.model.compiled = learner.model.compiled, False  # FlexAttention is for compiled steps
    try:
        with torch.compiler.set_stance("force_eager"):  # compiling for every size tried would take minutes
            learner.update([batches.batch(0, micro) for micro in range(2)], factor=0.0, seed=0)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _let_go(error, learner)
        return False
    finally:
        learner.model.compiled = compiled
    return True

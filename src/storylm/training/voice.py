"""What the processes of a run say: rank 0 speaks for all."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch

from storylm.config.errors import SetupError
from storylm.training.distributed import Ranks


@contextmanager
def one_voice(ranks: Ranks) -> Iterator[None]:
    """In the block only rank 0 is heard. Where another process is lost, it says so in a line, and all end.

    Other errors that leave the block are the caller's to print, on whatever rank.
    """
    if ranks.size == 1:
        yield
        return
    try:
        if ranks.is_main:
            yield
        else:
            with _silence():
                yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        if not ranks.is_main:
            raise SystemExit(SetupError.exit_code) from error
        raise SetupError(
            "another process of this run is gone: run again to go on from the last checkpoint, or let "
            "torchrun --max-restarts do so"
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    warned = warnings.catch_warnings()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), warned:
        warnings.simplefilter("ignore")
        yield

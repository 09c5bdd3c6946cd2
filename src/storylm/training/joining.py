"""How the processes that torchrun started find each other."""

import atexit
import os
import secrets
import sys
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import torch

from storylm.config.errors import SetupError
from storylm.training.distributed import Ranks

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(days=2)  # others wait that long for rank 0: it may have a whole corpus to prepare
SILENCE = timedelta(minutes=30)  # in a step: a machine that vanished says no more; compiling takes a few at most
ROLL_CALL_SECONDS = 1800.0


def joined() -> Ranks:
    """The ranks that torchrun started this process with; a process by itself where it did not.

    The first call waits until all of them are there. Raises `SetupError` where some do not come.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1 or any(name not in os.environ for name in TORCHRUN):
        return Ranks()
    return _join()


@cache
def _join() -> Ranks:
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    local = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    store, rank, size = next(rendezvous("env://"))
    store = PrefixStore(roll_call(store, rank, size), store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    atexit.register(dist.destroy_process_group)
    talk, wait = (dist.new_group(backend="gloo", timeout=patience) for patience in (SILENCE, PATIENCE))
    assert isinstance(talk, dist.ProcessGroup)  # every rank is in both
    assert isinstance(wait, dist.ProcessGroup)
    return Ranks(rank, local, size, talk, wait)


def leave(exit_code: int) -> None:
    """End this process now where it is one of several; alone, return.

    gloo's threads outlive `destroy_process_group`, and while Python takes itself apart they have been seen to end the
    process by abort (torch 2.13, on a busy machine, once in some hundred): torchrun would take a run that is done for
    one that failed. So Python's exit functions are run, and the process ends.
    """
    if _join.cache_info().currsize:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def roll_call(store: "Store", rank: int, size: int) -> str:
    """A name for this attempt that all its ranks know and no other attempt has.

    torchrun keeps its store when it starts all processes again, and the addresses that dead ones left there look like
    those of the living. So every process says a word of its own, rank 0 answers to that word with its own, and is
    content when all have heard it: whatever a dead process said or heard, no one waits for.
    """
    own = secrets.token_hex(8)
    if rank != 0:
        store.set(f"here/{rank}", own)
        attempt = store.get(f"answer/{own}").decode()  # waits
        store.set(f"heard/{attempt}/{rank}", "")
        return attempt
    missing, deadline = list(range(1, size)), time.monotonic() + ROLL_CALL_SECONDS
    while missing := [other for other in missing if not store.check([f"heard/{own}/{other}"])]:
        for other in missing:
            if store.check([f"here/{other}"]):
                store.set(f"answer/{store.get(f'here/{other}').decode()}", own)
        if time.monotonic() > deadline:
            raise SetupError(f"{len(missing)} of the {size} processes of this run did not come: start all of them")
        time.sleep(0.02)
    return own

"""The processes of a run: one by itself, or several that torchrun started, on one machine or many.

All of them go through the same steps. They meet where gradients are added up, and where something has to be decided:
what only one may do (write files, print), rank 0 does. Whatever depends on a clock or a signal is agreed on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from storylm.config.errors import UsageError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class Ranks:
    """This process among the `size` processes of its run. Alone, it waits for no one and everything is as it is.

    >>> ranks = Ranks()
    >>> ranks.is_main, ranks.sum_up([3, 4])
    (True, [3, 4])
    """

    rank: int = 0
    local: int = 0  # its number on this machine, and of its GPU there
    size: int = 1
    _talk: "ProcessGroup | None" = None  # for numbers on the host: no GPU is waited for
    _wait: "ProcessGroup | None" = None  # for what may take days, as rank 0's preparing of a corpus

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def device(self, spec: str) -> str:
        """`train.device` for this process: each has a GPU of its own. Raises `UsageError` where that cannot be."""
        if self.size == 1:
            return spec
        # Where each process is shown one GPU only (Slurm's --gpus-per-task=1), that is its own.
        own = f"cuda:{0 if torch.cuda.device_count() == 1 else self.local}"
        if spec == "auto":
            return own if torch.cuda.is_available() else "cpu"
        if spec == "cuda":
            return own
        if spec != "cpu":
            raise UsageError(
                f"train.device={spec!r} is one device, but there are {self.size} processes: set train.device to auto, "
                f"cuda or cpu"
            )
        return spec

    # -- numbers -------------------------------------------------------------------------------------

    def sum_up(self, numbers: Sequence[float]) -> list[float]:
        """Of all ranks, one by one; exact for whole numbers below 2**53."""
        return self._reduced(numbers, "SUM")

    def highest(self, numbers: Sequence[float]) -> list[float]:
        """Of all ranks, one by one."""
        return self._reduced(numbers, "MAX")

    def sum(self, tensor: Tensor) -> Tensor:
        """Of all ranks, in place and on the device, which the program does not wait for."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def _reduced(self, numbers: Sequence[float], operation: str, group: "ProcessGroup | None" = None) -> list[float]:
        if self.size == 1:
            return list(numbers)
        tensor, operator = torch.tensor(numbers, dtype=torch.float64), getattr(torch.distributed.ReduceOp, operation)
        torch.distributed.all_reduce(tensor, operator, group=group or self._talk)
        return tensor.tolist()

    # -- what rank 0 has -----------------------------------------------------------------------------

    def share(self, data: bytes | None) -> bytes:
        """Rank 0's `data`, on every rank."""
        if self.size == 1:
            return data or b""
        size = int(self.sum_up([len(data or b"") if self.is_main else 0])[0])
        tensor = torch.empty(size, dtype=torch.uint8)
        if self.is_main and data:
            tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if size:
            torch.distributed.broadcast(tensor, 0, group=self._talk)
        return tensor.numpy().tobytes()

    def share_weights(self, model: nn.Module) -> None:
        """Give every rank's `model`, on the CPU, the weights of rank 0's."""
        if self.size > 1:
            for parameter in model.parameters():
                torch.distributed.broadcast(parameter.detach(), 0, group=self._talk)

    # -- one after another ---------------------------------------------------------------------------

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 goes through the block before the others; where it fails, all end, and it says why."""
        with self._first(self.is_main):
            yield

    @contextmanager
    def leaders_first(self) -> Iterator[None]:
        """The first rank of each machine goes through the block before the others; else as `main_first`."""
        with self._first(self.local == 0):
            yield

    @contextmanager
    def _first(self, first: bool) -> Iterator[None]:
        if self.size == 1:
            yield
            return
        if not first:
            self._pass_on(0)
        try:
            yield
        except BaseException as error:
            if first:
                self._pass_on(getattr(error, "exit_code", 1))
            raise
        if first:
            self._pass_on(0)

    def _pass_on(self, exit_code: int) -> None:
        (worst,) = self._reduced([exit_code], "MAX", self._wait)
        if worst and not exit_code:
            raise SystemExit(int(worst))

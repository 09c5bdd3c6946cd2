"""Reading: tokens of many stories go through the model, and scores for what follows come out.

A story has a slot of its own in the reader's cache. On a CPU the C++ of `generation.native` reads, elsewhere and where
there is no compiler PyTorch; the two give the same scores, to rounding.
"""

# B parts, T tokens, V vocabulary

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.generation.native import kernels
from storylm.generation.native.decode import AT_ONCE, NativeModel, kinds
from storylm.model.transformer import Transformer

if TYPE_CHECKING:
    from storylm.generation.steps import Steps

PRECISIONS = ("fp32", "bf16", "int8")


class Part(NamedTuple):
    """Tokens of the story in `slot`, of which `start` were read before; from 0 another story begins there."""

    slot: int
    start: int
    tokens: Sequence[int]


class Reader(Protocol):
    """What reads. `slots` and `capacity` say how many stories it holds at once, and how many tokens of each."""

    slots: int
    capacity: int

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Scores [B, V] for what comes after the last token of each part; no slot comes twice."""
        ...

    def read_all(self, slot: int, tokens: Sequence[int]) -> Iterator[Tensor]:
        """Scores [T, V] for what comes after each of these tokens, with which a story begins: piece by piece."""
        ...

    def steps(self, vocabulary: int) -> "Steps":
        """What draws from its scores, of so many tokens, in the way that suits where it reads."""
        ...


def build_reader(model: Transformer, slots: int, capacity: int, precision: str = "fp32") -> Reader:
    """The fastest reader there is for the model on its device.

    `precision` is that of the matrices: "fp32"; "bf16"; or "int8", a scale for each output, where a processor with
    VNNI makes eight bits of what they are multiplied with, too. In PyTorch int8 saves memory, not time.

    Raises:
        UsageError: an unknown precision, or a capacity beyond the model's context.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision={precision!r} is not allowed: it is one of {', '.join(PRECISIONS)}")
    if kernels(model.device) is None:
        from storylm.generation.torch_reader import TorchReader

        return TorchReader(model, slots, capacity, precision)
    return NativeReader(model, slots, capacity, precision)


class NativeReader:
    """The C++ one: prompts and single tokens go in one pass, and no story depends on those beside it, not by a bit."""

    def __init__(self, model: Transformer, slots: int, capacity: int, precision: str = "fp32"):
        self.slots, self.capacity = slots, capacity
        kind = precision if precision in kinds() else f"{precision}_weights"  # int8, without VNNI
        self._model = NativeModel(model, kind, slots, capacity)

    def read(self, parts: Sequence[Part]) -> Tensor:
        """See `Reader`."""
        tokens, places, slots, last = [], [], [], []
        for slot, start, own in parts:
            tokens += own
            places += range(start, start + len(own))
            slots += [slot] * len(own)
            last.append(len(tokens) - 1)
        return self._model.read(torch.tensor(tokens), torch.tensor(places), torch.tensor(slots), last)

    def read_all(self, slot: int, tokens: Sequence[int]) -> Iterator[Tensor]:
        """See `Reader`."""
        for first in range(0, len(tokens), AT_ONCE):
            tokens_T = torch.tensor(tokens[first : first + AT_ONCE])
            places_T = torch.arange(first, first + len(tokens_T))
            yield self._model.read(tokens_T, places_T, torch.full_like(tokens_T, slot), range(len(tokens_T)))

    def steps(self, vocabulary: int) -> "Steps":
        """See `Reader`."""
        from storylm.generation.steps import HostSteps

        return HostSteps(self, vocabulary, self._model.threads)

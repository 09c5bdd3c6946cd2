"""Reading: tokens of many stories go through the model, and scores for what follows come out.

A story has a slot of its own in the reader's cache. On a CPU the C++ of `generation.native` reads, elsewhere and where
there is no compiler PyTorch; the two give the same scores, to rounding.
"""

# B parts, T tokens, V vocabulary

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storylm.config.errors import UsageError
from storylm.generation.cache import SlotCache
from storylm.generation.native import kernels
from storylm.generation.native.decode import NativeModel
from storylm.model.int8 import from_int8, int8_rows
from storylm.model.transformer import Transformer

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


def build_reader(model: Transformer, slots: int, capacity: int, precision: str = "fp32") -> Reader:
    """The fastest reader there is for the model on its device.

    `precision` is that of the matrices: "fp32"; "bf16"; or "int8", a scale for each output, where a processor with
    VNNI makes eight bits of what they are multiplied with, too.

    Raises:
        UsageError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision={precision!r} is not allowed: it is one of {', '.join(PRECISIONS)}")
    found = kernels(model.device)
    if found is None:
        return TorchReader(model, slots, capacity, precision)
    return NativeReader(model, slots, capacity, precision)


class NativeReader:
    """The C++ one: prompts and single tokens go in one pass, and no story depends on those beside it, not by a bit."""

    def __init__(self, model: Transformer, slots: int, capacity: int, precision: str = "fp32"):
        self.slots, self.capacity = slots, capacity
        self._model = NativeModel(model, precision, slots, capacity)

    def read(self, parts: Sequence[Part]) -> Tensor:
        """See `Reader`."""
        tokens, places, slots, last = [], [], [], []
        for slot, start, own in parts:
            tokens += own
            places += range(start, start + len(own))
            slots += [slot] * len(own)
            last.append(len(tokens) - 1)
        return self._model.read(torch.tensor(tokens), torch.tensor(places), torch.tensor(slots), last)


class TorchReader:
    """PyTorch's: single tokens in one pass, prompts in another, the shorter of them padded."""

    def __init__(self, model: Transformer, slots: int, capacity: int, precision: str = "fp32"):
        self.slots, self.capacity, self.precision = slots, capacity, precision
        self._model = _in_int8(model) if precision == "int8" else model
        self._cache = SlotCache(slots, capacity)

    def read(self, parts: Sequence[Part]) -> Tensor:
        """See `Reader`."""
        scores_BV = torch.empty(len(parts), self._model.config.vocab_size, device=self._model.device)
        for single in (False, True):
            rows = [row for row, part in enumerate(parts) if (len(part.tokens) == 1) == single]
            if rows:
                scores_BV[rows] = self._pass([parts[row] for row in rows])
        return scores_BV

    @torch.inference_mode()
    def _pass(self, parts: list[Part]) -> Tensor:
        device, longest = self._model.device, max(len(part.tokens) for part in parts)
        padded = [[*part.tokens, *[0] * (longest - len(part.tokens))] for part in parts]
        starts_B1 = torch.tensor([[part.start] for part in parts], device=device)
        last_B = torch.tensor([len(part.tokens) - 1 for part in parts], device=device)
        positions_BT = starts_B1 + torch.arange(longest, device=device)
        cache = self._cache.use(torch.tensor([part.slot for part in parts], device=device))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            hidden_BTD = self._model.hidden(torch.tensor(padded, device=device), positions_BT, cache=cache)
            hidden_BD = hidden_BTD[torch.arange(len(parts), device=device), last_B]
            return F.linear(hidden_BD, self._model.head_weight).float()


def _in_int8(model: Transformer) -> Transformer:
    """A copy whose matrices are what eight bits make of them; embeddings stay what they are, as in C++."""
    config = model.config.model_copy(update={"tied": False})
    copy = Transformer(config).to(model.device).eval()
    copy.load_state_dict({**model.state_dict(), "head.weight": model.head_weight})
    for module in copy.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = from_int8(*int8_rows(module.weight.data))
    return copy

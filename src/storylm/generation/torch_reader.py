"""Reading by PyTorch: on a GPU, and where there is no compiler."""

# B parts, N slots, T tokens, V vocabulary

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storylm.generation.cache import SlotCache
from storylm.generation.reading import Part
from storylm.model.int8 import from_int8, int8_rows
from storylm.model.transformer import Transformer


class TorchReader:
    """Single tokens in one pass, then prompts in another, the shorter of them padded.

    On a GPU the first is a CUDA graph of all slots, told to run as a whole: a small model's kernels take less time than
    it takes to start them one by one. A slot without a story writes to its first place, which the next one writes anew.
    """

    def __init__(self, model: Transformer, slots: int, capacity: int, precision: str = "fp32"):
        self.slots, self.capacity, self.precision = slots, capacity, precision
        self._model = _in_int8(model) if precision == "int8" else model
        self._cache = SlotCache(slots, capacity)
        self._records = model.device.type == "cuda"
        self._graphs: dict[int, _Graph] = {}  # by how many places are seen

    def read(self, parts: Sequence[Part]) -> Tensor:
        """See `Reader`."""
        scores_BV = torch.empty(len(parts), self._model.config.vocab_size, device=self._model.device)
        for read, single in ((self._read_singles, True), (self._read_prompts, False)):
            rows = [row for row, part in enumerate(parts) if (len(part.tokens) == 1) == single]
            if rows:
                scores_BV[rows] = read([parts[row] for row in rows])
        return scores_BV

    def _read_singles(self, parts: list[Part]) -> Tensor:
        if not self._records:
            return self._read_prompts(parts)
        used = min(self.capacity, (max(part.start for part in parts) // _BUCKET + 1) * _BUCKET)
        tokens_N1, places_N1 = torch.zeros(2, self.slots, 1, dtype=torch.int64)
        for part in parts:
            tokens_N1[part.slot], places_N1[part.slot] = part.tokens[0], part.start
        tokens_N1, places_N1 = tokens_N1.to(self._model.device), places_N1.to(self._model.device)
        if used not in self._graphs:
            self._graphs[used] = _Graph(partial(self._pass, slots_B=None, used=used), tokens_N1, places_N1)
        return self._graphs[used].replay(tokens_N1, places_N1)[[part.slot for part in parts]]

    def _read_prompts(self, parts: list[Part]) -> Tensor:
        device, longest = self._model.device, max(len(part.tokens) for part in parts)
        padded = [[*part.tokens, *[0] * (longest - len(part.tokens))] for part in parts]
        starts_B1 = torch.tensor([[part.start] for part in parts], device=device)
        slots_B = torch.tensor([part.slot for part in parts], device=device)
        last_B = torch.tensor([len(part.tokens) - 1 for part in parts], device=device)
        used = max(part.start for part in parts) + longest
        positions_BT = starts_B1 + torch.arange(longest, device=device)
        return self._pass(torch.tensor(padded, device=device), positions_BT, slots_B, used, last_B)

    @torch.inference_mode()
    def _pass(
        self, tokens_BT: Tensor, positions_BT: Tensor, slots_B: Tensor | None, used: int, last_B: Tensor | None = None
    ) -> Tensor:
        """Scores for what follows the token at index `last_B` of each row, the first unless given."""
        cache = self._cache.use(slots_B, used)
        with torch.autocast(tokens_BT.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            hidden_BTD = self._model.hidden(tokens_BT, positions_BT, cache=cache)
            rows_B = torch.arange(len(tokens_BT), device=tokens_BT.device)
            hidden_BD = hidden_BTD[:, 0] if last_B is None else hidden_BTD[rows_B, last_B]
            return F.linear(hidden_BD, self._model.head_weight).float()


_BUCKET = 64  # places: a graph sees a fixed number of them


class _Graph:
    """A pass over one token in each slot, recorded once and run again with other numbers in the same memory."""

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], tokens_N1: Tensor, places_N1: Tensor):
        # Recorded with numbers that are right: the first visit writes to the cache.
        self._tokens_N1, self._places_N1 = tokens_N1.clone(), places_N1.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is made on the first visit must not be made in the recording
            run(self._tokens_N1, self._places_N1)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._scores_NV = run(self._tokens_N1, self._places_N1)

    def replay(self, tokens_N1: Tensor, places_N1: Tensor) -> Tensor:
        """Scores [N, V]."""
        self._tokens_N1.copy_(tokens_N1)
        self._places_N1.copy_(places_N1)
        self._graph.replay()
        return self._scores_NV.clone()


def _in_int8(model: Transformer) -> Transformer:
    """A copy whose matrices are what eight bits make of them; embeddings stay what they are, as in C++."""
    config = model.config.model_copy(update={"tied": False})
    copy = Transformer(config).to(model.device).eval()
    copy.load_state_dict({**model.state_dict(), "head.weight": model.head_weight})
    for module in copy.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = from_int8(*int8_rows(module.weight.data))
    return copy

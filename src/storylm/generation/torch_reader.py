"""Reading by PyTorch: on a GPU, and where there is no compiler."""

# B rows of a pass, N slots, T tokens, V vocabulary

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from storylm.generation.cache import SlotCache, check_capacity
from storylm.generation.matrices import in_precision
from storylm.generation.reading import Part
from storylm.generation.steps import Steps
from storylm.model.transformer import Transformer


class TorchReader:
    """Single tokens in one pass, then prompts in another, the shorter of them padded.

    What it reads and finds has its place on the device, by slot: single tokens are those of `tokens_N`, at `places_N`
    of their stories (-1: none), and scores come to `scores_NV`. So a step can write what the next one reads.

    On a GPU a pass of single tokens is a CUDA graph of all slots, told to run as a whole: a small model's kernels take
    less time than it takes to start them one by one.

    Raises:
        UsageError: a capacity beyond the model's context.
    """

    def __init__(self, model: Transformer, slots: int, capacity: int, precision: str = "fp32"):
        check_capacity(capacity, model.config)
        self.slots, self.capacity, self.device = slots, capacity, model.device
        self._model, self._head = in_precision(model, precision)
        kept = torch.float32 if precision == "fp32" else torch.bfloat16
        self._cache = SlotCache(slots, capacity, kept, model.config.windows, AT_ONCE)
        self._recorder = Recorder(model.device) if model.device.type == "cuda" else None
        self._recorded: dict[int, Callable[[], None]] = {}  # by how many places are seen
        self.tokens_N = torch.zeros(slots, dtype=torch.int64, device=model.device)
        self.places_N = torch.full((slots,), -1, device=model.device)
        self.scores_NV = torch.zeros(slots, model.config.vocab_size, device=model.device)

    def steps(self, vocabulary: int) -> Steps:
        """See `Reader`."""
        from storylm.generation.device_steps import DeviceSteps

        return DeviceSteps(self, vocabulary, ahead=1 if self.device.type == "cuda" else 0)

    def upload(self, numbers: Sequence) -> Tensor:
        """Whole numbers on the device, without waiting for what it is at."""
        on_cuda = self.device.type == "cuda"
        return torch.tensor(numbers, dtype=torch.int64, pin_memory=on_cuda).to(self.device, non_blocking=on_cuda)

    def read(self, parts: Sequence[Part]) -> Tensor:
        """See `Reader`."""
        singles = {part.slot: part for part in parts if len(part.tokens) == 1}
        longer = [part for part in parts if part.slot not in singles]
        if singles:
            nothing = Part(0, -1, [0])
            numbers = [singles.get(slot, nothing) for slot in range(self.slots)]
            self.tokens_N.copy_(self.upload([part.tokens[0] for part in numbers]))
            self.places_N.copy_(self.upload([part.start for part in numbers]))
            self.read_singles(list(singles), max(part.start for part in singles.values()))
        if longer:
            self.read_prompts(longer)
        return self.scores_NV[self.upload([part.slot for part in parts])]

    def read_singles(self, slots: list[int], last: int) -> None:
        """Read the tokens that are ready in these slots, and no others are; `last` is the last of their places."""
        if self._recorder is None:
            self._pass_singles(None if len(slots) == self.slots else self.upload(slots), last + 1)
            return
        used = min(self.capacity, (last // _BUCKET + 1) * _BUCKET)
        if used not in self._recorded:
            self._recorded[used] = self._recorder.record(partial(self._pass_singles, None, used))
        self._recorded[used]()

    def read_prompts(self, parts: Sequence[Part]) -> None:
        """Read these, whose tokens may be several."""
        for first in range(0, max(len(part.tokens) for part in parts), AT_ONCE):
            some = [part for part in parts if len(part.tokens) > first]
            self._pass_prompts([Part(slot, start + first, own[first : first + AT_ONCE]) for slot, start, own in some])

    @torch.inference_mode()
    def read_all(self, slot: int, tokens: Sequence[int]) -> Iterator[Tensor]:
        """See `Reader`."""
        slots_B = self.upload([slot])
        for first in range(0, len(tokens), AT_ONCE):
            own_BT = self.upload([tokens[first : first + AT_ONCE]])
            places_BT = torch.arange(first, first + own_BT.shape[1], device=self.device)[None]
            yield self._head(self._hidden(own_BT, places_BT, slots_B, first + own_BT.shape[1])[0])

    def _pass_prompts(self, parts: Sequence[Part]) -> None:
        longest = max(len(part.tokens) for part in parts)
        padded = [[*part.tokens, *[0] * (longest - len(part.tokens))] for part in parts]
        places = [[part.start + n if n < len(part.tokens) else -1 for n in range(longest)] for part in parts]
        slots_B = self.upload([part.slot for part in parts])
        last_B = self.upload([len(part.tokens) - 1 for part in parts])
        used = max(part.start + len(part.tokens) for part in parts)
        scores_BV = self._pass(self.upload(padded), self.upload(places), slots_B, used, last_B)
        self.scores_NV.index_copy_(0, slots_B, scores_BV)

    def _pass_singles(self, slots_B: Tensor | None, used: int) -> None:
        tokens_N1, places_N1 = self.tokens_N[:, None], self.places_N[:, None]
        if slots_B is None:
            self.scores_NV.copy_(self._pass(tokens_N1, places_N1, None, used))
        else:
            self.scores_NV.index_copy_(0, slots_B, self._pass(tokens_N1[slots_B], places_N1[slots_B], slots_B, used))

    @torch.inference_mode()
    def _pass(
        self, tokens_BT: Tensor, places_BT: Tensor, slots_B: Tensor | None, used: int, last_B: Tensor | None = None
    ) -> Tensor:
        """Scores for what follows the token at index `last_B` of each row, the first unless given."""
        hidden_BTD = self._hidden(tokens_BT, places_BT, slots_B, used)
        rows_B = torch.arange(len(tokens_BT), device=self.device)
        return self._head(hidden_BTD[:, 0] if last_B is None else hidden_BTD[rows_B, last_B])

    def _hidden(self, tokens_BT: Tensor, places_BT: Tensor, slots_B: Tensor | None, used: int) -> Tensor:
        cache = self._cache.use(slots_B, used, places_BT)
        return self._model.hidden(tokens_BT, places_BT.clamp(min=0), cache=cache)


_BUCKET = 64  # places: a graph sees a fixed number of them
AT_ONCE = 256  # tokens of a prompt in a pass: the ring of a window has to have room for as many more


class Recorder:
    """Records work on a GPU as CUDA graphs, which share their memory: one runs after another.

    What they leave is to be in tensors that were there before. All that a first visit makes has to be made when
    recording begins, so the work is done once before; it must not matter how often it is done.
    """

    def __init__(self, device: torch.device):
        self._device = device
        with torch.cuda.device(device):
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does this work again, with what is then in its tensors."""
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                work()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Others may be at work on the GPU in threads of their own, as the server is.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                work()
        return partial(self._replay, graph)

    def _replay(self, graph: "torch.cuda.CUDAGraph") -> None:
        with torch.cuda.device(self._device):
            graph.replay()

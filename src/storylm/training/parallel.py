"""How a model is spread over the processes of a run: whole on one, copied to each (DDP), or shared out (FSDP2).

What is wrapped is one forward pass, from a micro-batch to a loss that is a sum: DDP and FSDP do their part when a
module is called. Both average gradients over ranks, so the loss to differentiate is `size` times as large.
"""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from storylm.config.errors import UsageError
from storylm.config.schema import RunConfig
from storylm.data.batches import IGNORED
from storylm.model.transformer import Transformer
from storylm.optim.average import WeightAverage
from storylm.training.distributed import Ranks


class Whole:
    """One process: the module as it is."""

    def __init__(self, module: nn.Module, model: Transformer):
        self.module, self.model, self.plain = module, model, model
        self.average: WeightAverage | None = None

    def __call__(self, *parts: Tensor | None) -> Tensor:
        """The loss of a micro-batch."""
        return self.module(*parts)

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of a micro-batch: only in the `last` one of a step do gradients meet."""
        return nullcontext()

    def gather(self) -> Transformer:
        """A plain model with the weights as they are now, or their `average` where there is one: `plain`.

        All ranks have to ask for it together.
        """
        if self.average is not None:
            if self.plain is self.model:
                self.plain = copy.deepcopy(self.model)
            for plain, weight in zip(self.plain.parameters(), self.average.weights, strict=True):
                plain.data = weight  # the same memory
        return self.plain


class Copies(Whole):
    """A copy of the model on every rank; gradients are averaged while the backward pass still runs."""

    def __init__(self, module: nn.Module, model: Transformer):
        super().__init__(module, model)
        self.module = nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        self.module.broadcast_buffers = False  # tables that never change
        # After its first backward pass DDP sorts gradients anew, by when they come, and in another order the sums of
        # three ranks and more round otherwise. So the first pass is no step: all steps of every process have one order.
        nothing = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        with torch.compiler.set_stance("force_eager"):
            self.module(nothing, torch.full_like(nothing, IGNORED), None, None).backward()
        model.zero_grad(set_to_none=True)

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.module.no_sync()


class Shards(Whole):
    """Every rank keeps its share of each weight, of its gradient and of the optimizer's state.

    A block's weights are gathered, in fp32, when their turn comes; autocast computes with them as ever. `plain` is a
    copy for judging, telling and saving, which are no part of a step: it costs 4 bytes a parameter.
    """

    def __init__(self, module: nn.Module, model: Transformer):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        super().__init__(module, model)
        self.plain = copy.deepcopy(model)
        mesh = init_device_mesh(model.device.type, (torch.distributed.get_world_size(),))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        self.module: Any = fully_shard(module, mesh=mesh)

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        self.module.set_requires_gradient_sync(last)
        return nullcontext()

    @torch.no_grad()
    def gather(self) -> Transformer:
        weights = self.model.parameters() if self.average is None else self.average.weights
        for plain, shard in zip(self.plain.parameters(), weights, strict=True):
            plain.copy_(gathered(shard))
        return self.plain


WRAPPERS = {"auto": Copies, "ddp": Copies, "fsdp": Shards}


def wrap_model(module: nn.Module, model: Transformer, parallel: str, ranks: Ranks) -> Whole:
    """What a step calls in the place of `module`, which holds `model`.

    Shards replace the model's parameters: build optimizers afterwards.
    """
    return Whole(module, model) if ranks.size == 1 else WRAPPERS[parallel](module, model)


def check_parallel(config: RunConfig, precision: str, ranks: Ranks) -> None:
    """Raises `UsageError` where `train.parallel` does not go with other settings."""
    if ranks.size == 1 or config.train.parallel != "fsdp":
        return
    if precision == "fp16":
        raise UsageError("train.parallel=fsdp does not go with train.precision=fp16: set bf16, fp32, or parallel=ddp")


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, which all ranks have to ask for together; any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[attr-defined]


def sharded_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This rank's share of `tensor`, cut as `parameter` of the same shape is; the tensor itself where that is whole."""
    if not hasattr(parameter, "device_mesh"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(parameter.device), mesh, placements, src_data_rank=None)

"""What two processes find when each has half the rows of every weight."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from storylm.optim import update
from storylm.optim.average import WeightAverage
from storylm.optim.eight_bit import AdamW8bit

SHAPES = ((81, 64), (64, 96))  # 81 rows: 41 and 40


def compare(rank: int, store: Path) -> None:
    """Clip, step, average: sharded as whole. Raises where they differ."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))

    def shard(tensor: Tensor) -> Tensor:
        return distribute_tensor(tensor, mesh, [Shard(0)])

    makers = (
        (lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True), update._step_masked),
        (lambda parameters: AdamW8bit(parameters, 0.1, (0.9, 0.95), 1e-8, 0.1), update._step_or_undo),
    )
    for make, step_where in makers:
        torch.manual_seed(0)
        whole = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
        sharded = [nn.Parameter(shard(parameter.detach())) for parameter in whole]
        optimizers = [make(whole), make(sharded)]
        averages = [WeightAverage(whole, 0.9), WeightAverage(sharded, 0.9)]
        for good in (True, False, True):
            for parameter, part in zip(whole, sharded, strict=True):
                parameter.grad = torch.randn(parameter.shape)
                part.grad = shard(parameter.grad)
            norms = [update.clip_gradients(parameters, 0.5) for parameters in (whole, sharded)]
            torch.testing.assert_close(norms[1], norms[0], rtol=1e-6, atol=0)
            for parameter, part in zip(whole, sharded, strict=True):
                torch.testing.assert_close(part.grad.full_tensor(), parameter.grad, rtol=1e-5, atol=0)
                part.grad = shard(parameter.grad)  # to the bit, from here on
            for optimizer, average in zip(optimizers, averages, strict=True):
                step_where(optimizer, torch.tensor(good))
                average.update(torch.tensor(good))
        pairs = list(zip(whole, sharded, strict=True)) + list(zip(*(each.weights for each in averages), strict=True))
        for a, b in zip(*(optimizer.state.values() for optimizer in optimizers), strict=True):
            assert a.keys() == b.keys()
            pairs += [(a[key], b[key]) for key in a if a[key].ndim]
        for one, other in pairs:
            torch.testing.assert_close(other.full_tensor(), one.detach(), rtol=0, atol=0)
    dist.destroy_process_group()

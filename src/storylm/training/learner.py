"""One update of the weights: forward and backward over the micro-batches, then the optimizers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from storylm.config.schema import RunConfig
from storylm.data.batches import IGNORED, Batch
from storylm.model.loss import next_token_loss
from storylm.model.transformer import Transformer
from storylm.optim.build import build_optimizers, set_learning_rates
from storylm.training.device import autocast


@dataclass(frozen=True)
class Update:
    """What one step did. `nats` is a tensor on the device, so that reading it can wait."""

    nats: Tensor
    tokens: int
    gradient_norm: float
    applied: bool


class Learner:
    """A model with its optimizers. Weights are fp32; the forward pass computes in `precision`."""

    def __init__(self, model: Transformer, config: RunConfig, precision: str, compiled: bool):
        self.model, self.config, self.precision, self.compiled = model, config, precision, compiled
        self.optimizers = build_optimizers(model, config.optim)
        # Gradients below fp16's range are lost unless the loss is scaled up first; bf16 has fp32's range.
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")
        if compiled:
            # Rows of several widths and windows of several sizes are a compilation each. Beyond dynamo's default of 8
            # the rest would run uncompiled: which, depends on the order they come in, and after a resume it is another.
            torch._dynamo.config.recompile_limit = 64
            # Block by block: all blocks share one compiled function, so a deep model compiles as fast as a
            # shallow one. In place, so that names in checkpoints stay plain.
            for block in model.blocks:
                block.compile(dynamic=False)

    def update(self, batches: Sequence[Batch], factor: float, seed: int) -> Update:
        """Learn from micro-batches as if they were one batch, at `factor` times the peak learning rates.

        `seed` decides dropout, and nothing else does: a step is the same whenever it is run. An update
        whose gradients are not all finite leaves weights and optimizer state alone.
        """
        torch.manual_seed(seed)
        self.model.train()
        tokens = max(1, sum(int((batch.targets_BT != IGNORED).sum()) for batch in batches))
        nats = torch.stack([self._forward_backward(batch.to(self.model.device), tokens) for batch in batches]).sum()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        clip = self.config.optim.clip
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), float("inf") if clip is None else clip)
        applied = bool(torch.isfinite(norm) & torch.isfinite(nats))
        if applied:
            set_learning_rates(self.optimizers, factor)
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()  # after an overflow too: this is what lowers the scale
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return Update(nats, tokens, float(norm), applied)

    def _forward_backward(self, batch: Batch, tokens_in_step: int) -> Tensor:
        with autocast(self.model.device, self.precision):
            hidden = self.model.hidden(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
            nats, _ = next_token_loss(hidden, self.model.head_weight, batch.targets_BT, self.compiled)
        self.scaler.scale(nats / tokens_in_step).backward()
        return nats.detach()

"""One update of the weights: forward and backward over the micro-batches, then the optimizers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from storylm.config.schema import RunConfig
from storylm.data.batches import IGNORED, Batch
from storylm.model.loss import next_token_loss
from storylm.model.transformer import Transformer
from storylm.optim.average import WeightAverage
from storylm.optim.build import build_optimizers, set_learning_rates
from storylm.optim.update import clip_gradients, step_where
from storylm.training.device import autocast
from storylm.training.distributed import Ranks
from storylm.training.parallel import wrap_model


@dataclass(frozen=True)
class Update:
    """What one step did, on all ranks together. The tensors are 0-dim, on the device: reading them waits for it."""

    nats: Tensor
    tokens: int
    gradient_norm: Tensor
    applied: Tensor


class Learner:
    """A model with its optimizers. Weights are fp32; the forward pass computes in `precision`.

    On several `ranks`, each learns from micro-batches of its own, as many as the others, and all make the same update.
    """

    def __init__(
        self, model: Transformer, config: RunConfig, precision: str, compiled: bool, ranks: Ranks | None = None
    ):
        self.model, self.config, self.precision, self.compiled = model, config, precision, compiled
        self.ranks = ranks or Ranks()
        self.wrapped = wrap_model(_Nats(model, compiled), model, config.train.parallel, self.ranks)
        self.optimizers = build_optimizers(model, config.optim)
        if config.optim.ema is not None:
            self.wrapped.average = WeightAverage(list(model.parameters()), config.optim.ema)
        # Gradients below fp16's range are lost unless the loss is scaled up first; bf16 has fp32's range.
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")
        if compiled:
            model.compile_blocks()

    def update(self, batches: Sequence[Batch], factor: float, seed: int) -> Update:
        """Learn from micro-batches as if they were one batch, at `factor` times the peak learning rates.

        `seed` decides dropout, and nothing else does: a step is the same whenever it is run. An update
        whose gradients are not all finite leaves weights and optimizer state alone.
        """
        torch.manual_seed(seed)
        self.model.train()
        (tokens,) = self.ranks.sum_up([sum(int((batch.targets_BT != IGNORED).sum()) for batch in batches)])
        tokens = max(1, int(tokens))
        nats = [
            self._forward_backward(batch, tokens, number == len(batches)) for number, batch in enumerate(batches, 1)
        ]
        total = self.ranks.sum(torch.stack(nats).sum())
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = clip_gradients(self.model.parameters(), self.config.optim.clip)
        applied = torch.isfinite(norm) & torch.isfinite(total)
        set_learning_rates(self.optimizers, factor)
        step_where(self.optimizers, applied)
        if self.wrapped.average is not None:
            self.wrapped.average.update(applied)
        self.scaler.update()  # after an overflow too: this is what lowers the scale
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return Update(total, tokens, norm, applied)

    def _forward_backward(self, batch: Batch, tokens_in_step: int, last: bool) -> Tensor:
        batch = batch.to(self.model.device)
        with self.wrapped.accumulating(last):
            with autocast(self.model.device, self.precision):
                nats = self.wrapped(batch.tokens_BT, batch.targets_BT, batch.positions_BT, batch.documents_BT)
            # Gradients are averaged over ranks: so that they add up, each one's loss counts `size` times.
            self.scaler.scale(nats / (tokens_in_step / self.ranks.size)).backward()
        return nats.detach()


class _Nats(nn.Module):
    """What a step differentiates: from the tokens and targets of a micro-batch to the nats of all its targets."""

    def __init__(self, model: Transformer, compiled: bool):
        super().__init__()
        self.model, self.compiled = model, compiled

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor, positions_BT: Tensor | None, documents_BT: Tensor | None
    ) -> Tensor:
        hidden_BTD = self.model.hidden(tokens_BT, positions_BT, documents_BT)
        return next_token_loss(hidden_BTD, self.model.head_weight, targets_BT, self.compiled)[0]

"""AdamW with moments in 8 bits."""

import numpy as np
import pytest
import torch
from torch import nn

from storylm.config.model import ModelConfig
from storylm.config.schema import OptimConfig
from storylm.model.transformer import Transformer
from storylm.optim import codes, eight_bit
from storylm.optim.build import build_optimizers
from storylm.optim.eight_bit import AdamW8bit, block_size
from storylm.training.checkpoint import optimizer_tensors, restore_optimizers


@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((64, 512), 256),
        ((64, 384), 192),
        ((128, 32), 32),
        ((4096, 31), None),  # too narrow for a scale to pay
        ((50, 257), None),  # a prime
        ((127, 32), None),  # too small
        ((8192,), None),
    ],
)
def test_blocks_part_rows_evenly(shape: tuple[int, ...], block: int | None) -> None:
    assert block_size(torch.empty(shape)) == block


def test_equals_the_formula() -> None:
    """AdamW in NumPy whose moments go through a search for the nearest level, block by block."""
    random = np.random.default_rng(0)
    shape, block, lr, betas, eps, decay = (43, 96), 96, 0.01, (0.8, 0.9), 1e-8, 0.5
    parameter = nn.Parameter(torch.tensor(random.standard_normal(shape), dtype=torch.float32))
    optimizer = AdamW8bit([parameter], lr, betas, eps, decay)
    weight, first, second = parameter.detach().double().numpy(), np.zeros(shape), np.zeros(shape)
    for step in range(1, 6):
        gradient = random.standard_normal(shape) * random.uniform(0.01, 1, (43, 1))
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        weight = weight * (1 - lr * decay)
        weight -= lr * first / (1 - betas[0] ** step) / (np.sqrt(second / (1 - betas[1] ** step)) + eps)
        first, second = _through_8_bits(first, block, True), _through_8_bits(second, block, False)
        # Where rounding falls on the other side of a boundary, now and then, a moment is off by one level.
        difference = np.abs(parameter.detach().numpy() - weight)
        assert np.median(difference) < 1e-6
        assert np.sqrt((difference**2).mean()) < 0.01 * lr * step


def _through_8_bits(numbers: np.ndarray, block: int, signed: bool) -> np.ndarray:
    levels = np.array(codes._dynamic_levels(signed))
    blocks = numbers.reshape(len(numbers), -1, block)
    scale = np.abs(blocks).max(-1, keepdims=True)
    shares = torch.tensor(blocks / scale).bfloat16().double().numpy()
    return (levels[np.abs(shares[..., None] - levels).argmin(-1)] * scale).reshape(numbers.shape)


def test_stays_near_adamw_in_fp32() -> None:
    """A least-squares problem: after 50 steps the weights have moved alike, and have learned as much."""
    generator = torch.Generator().manual_seed(0)
    inputs, true = torch.randn(512, 64, generator=generator), torch.randn(64, 96, generator=generator)
    weights = []
    for make in (
        lambda parameters: torch.optim.AdamW(parameters, 0.02, (0.9, 0.95), weight_decay=0.1),
        lambda parameters: AdamW8bit(parameters, 0.02, (0.9, 0.95), 1e-8, 0.1),
    ):
        parameter = nn.Parameter(torch.zeros(64, 96))
        optimizer = make([parameter])
        for step in range(50):
            rows = inputs[32 * (step % 16) :][:32]
            loss = ((rows @ parameter - rows @ true) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights.append(parameter.detach())
    exact, ours = weights
    assert (ours - exact).norm() < 0.02 * exact.norm()
    assert (ours - true).norm() < 1.01 * (exact - true).norm() < 0.7 * true.norm()


def test_worked_on_together_or_one_by_one(monkeypatch) -> None:
    """How many rows go through at once changes nothing."""
    shapes = [(70, 64), (64, 64), (50, 128), (90, 64)]

    def weights(batch: int) -> list[torch.Tensor]:
        monkeypatch.setattr(eight_bit, "_BATCH", {"cpu": batch})
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
        optimizer = AdamW8bit(parameters, 0.1, (0.9, 0.95), 1e-8, 0.1)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape)
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    together = weights(10**7)
    for batch in (1, 5000):
        assert all(torch.equal(a, b) for a, b in zip(weights(batch), together, strict=True))


def test_small_tensors_keep_fp32() -> None:
    model = Transformer(ModelConfig(family="gpt2", vocab_size=130, context=16, layers=1, width=64, heads=2))
    eight, full = build_optimizers(model, OptimConfig(optimizer="adamw8bit", embedding_lr=0.3))
    names = {parameter: name for name, parameter in model.named_parameters()}
    in_eight = {names[parameter] for group in eight.param_groups for parameter in group["params"]}
    assert in_eight == {name for name, parameter in model.named_parameters() if block_size(parameter)}
    assert "embedding.weight" in in_eight
    assert "positions.table.weight" not in in_eight  # 16 x 64
    assert sorted({group["peak_lr"] for group in eight.param_groups}) == [0.001, 0.3]
    assert type(full) is torch.optim.AdamW


def test_goes_on_from_a_checkpoint_bit_for_bit() -> None:
    config = OptimConfig(optimizer="adamw8bit")

    def new() -> tuple[Transformer, list[torch.optim.Optimizer]]:
        torch.manual_seed(1)
        model = Transformer(ModelConfig(family="llama", vocab_size=130, context=16, layers=1, width=64, heads=2))
        return model, build_optimizers(model, config)

    def update(model: Transformer, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)
        for optimizer in optimizers:
            optimizer.step()

    model, optimizers = new()
    for seed in range(3):
        update(model, optimizers, seed)
    tensors, values = optimizer_tensors(optimizers, model)
    assert tensors["embedding.weight/exp_avg_codes"].dtype == torch.uint8
    other, others = new()
    other.load_state_dict(model.state_dict())
    restore_optimizers(others, other, tensors, values)
    for seed in range(3, 6):
        update(model, optimizers, seed)
        update(other, others, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    after, _ = optimizer_tensors(others, other)
    for name, tensor in optimizer_tensors(optimizers, model)[0].items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name

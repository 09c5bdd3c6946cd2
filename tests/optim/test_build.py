"""Every weight is updated once, by the right rule."""

import numpy as np
import pytest
import torch
from torch import nn

from storylm.config.model import ModelConfig
from storylm.config.schema import OptimConfig
from storylm.model.transformer import Transformer
from storylm.optim.average import WeightAverage
from storylm.optim.build import BUILDERS, build_optimizers, set_learning_rates
from storylm.optim.memory import state_bytes

MODELS = {
    family: ModelConfig(family=family, vocab_size=31, context=16, layers=2, width=24, heads=3)
    for family in ("gpt_neo", "gpt2", "llama", "qwen3")
}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("optimizer", BUILDERS)
def test_every_weight_in_exactly_one_group(family: str, optimizer: str) -> None:
    model = Transformer(MODELS[family])
    grouped = [
        id(parameter)
        for one in build_optimizers(model, OptimConfig(optimizer=optimizer))
        for group in one.param_groups
        for parameter in group["params"]
    ]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_only_matrices_decay() -> None:
    model = Transformer(MODELS["gpt2"])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    (optimizer,) = build_optimizers(model, OptimConfig(weight_decay=0.3))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            expected = 0.3 if parameter.ndim == 2 else 0.0
            assert group["weight_decay"] == expected, names[id(parameter)]


def test_muon_takes_the_hidden_matrices_and_nothing_else() -> None:
    model = Transformer(MODELS["qwen3"])
    config = OptimConfig(optimizer="muon", muon_lr=0.03, embedding_lr=0.5, head_lr=0.25, lr=0.01)
    muon, adamw = build_optimizers(model, config)
    hidden = {id(p) for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert {id(p) for group in muon.param_groups for p in group["params"]} == hidden
    set_learning_rates([muon, adamw], 0.5)
    assert [group["lr"] for group in muon.param_groups] == [0.015]
    assert sorted(group["lr"] for group in adamw.param_groups) == [0.005, 0.125, 0.25]


def test_rates_and_decays_of_each_kind() -> None:
    model = Transformer(MODELS["llama"])
    kinds = {
        "blocks.0.ff.up.weight": "hidden",
        "embedding.weight": "embeddings",
        "head.weight": "head",
        "norm.weight": "vectors",
    }

    def settings(**given: float) -> dict[str, tuple[float, float]]:
        (optimizer,) = build_optimizers(model, OptimConfig(lr=0.1, weight_decay=0.2, **given))
        of = {
            id(p): (group["peak_lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for p in group["params"]
        }
        return {kind: of[id(model.get_parameter(name))] for name, kind in kinds.items()}

    plain = (0.1, 0.2)
    assert settings() == {"hidden": plain, "embeddings": plain, "head": plain, "vectors": (0.1, 0.0)}
    # A head follows the embeddings, which it would be if it were tied, until it has a rate of its own.
    assert settings(embedding_lr=0.3)["head"] == settings(embedding_lr=0.3)["embeddings"] == (0.3, 0.2)
    assert settings(embedding_lr=0.3, head_lr=0.4)["head"] == (0.4, 0.2)
    # 0 is a decay like any other, not the lack of one.
    assert settings(embedding_decay=0.0) == settings() | {"embeddings": (0.1, 0.0)}


def test_adamw_equals_the_formula() -> None:
    """Loshchilov & Hutter 2019, in NumPy and fp64; torch's own, fused, on the CPU."""
    model = Transformer(MODELS["llama"])
    config = OptimConfig(lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2)
    (optimizer,) = build_optimizers(model, config)
    assert optimizer.defaults["fused"]
    random = np.random.default_rng(0)
    weights = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    first = {name: np.zeros_like(weight) for name, weight in weights.items()}
    second = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step in range(1, 6):
        set_learning_rates([optimizer], 1 / step)
        for name, parameter in model.named_parameters():
            gradient = random.standard_normal(parameter.shape)
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.9 * second[name] + 0.1 * gradient**2
            weights[name] *= 1 - 0.1 / step * (0.2 if parameter.ndim == 2 else 0.0)
            mean, square = first[name] / (1 - 0.8**step), second[name] / (1 - 0.9**step)
            weights[name] -= 0.1 / step * mean / (np.sqrt(square) + 1e-3)
        optimizer.step()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shape", [(24, 72), (72, 24)], ids=["wide", "tall"])
def test_muon_equals_the_formula(shape: tuple[int, int]) -> None:
    """Jordan 2024: Nesterov momentum, five Newton-Schulz iterations, sqrt of the aspect; in NumPy and fp64."""
    block = nn.Module()
    block.weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    model = nn.Module()
    model.blocks, model.norm = nn.ModuleList([block]), nn.Module()
    model.norm.weight = nn.Parameter(torch.ones(3))
    muon, _ = build_optimizers(model, OptimConfig(optimizer="muon", muon_lr=0.5, muon_decay=0.3, muon_momentum=0.9))
    random = np.random.default_rng(0)
    weight, momentum = block.weight.detach().double().numpy(), np.zeros(shape)
    for _ in range(3):
        gradient = random.standard_normal(shape)
        block.weight.grad = torch.tensor(gradient, dtype=torch.float32)
        before, expected = block.weight.detach().clone(), weight.copy()
        muon.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        weight = weight * (1 - 0.5 * 0.3) - 0.5 * max(1, shape[0] / shape[1]) ** 0.5 * _orthogonal(
            0.1 * gradient + 0.9 * momentum
        )
        ours, theirs = (block.weight.detach() - before).numpy(), weight - expected
        # torch iterates in bf16.
        assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)
        weight = block.weight.detach().double().numpy()


def _orthogonal(matrix: np.ndarray) -> np.ndarray:
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / np.linalg.norm(wide)
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    singular = np.linalg.svd(wide, compute_uv=False)
    assert ((singular > 0.6) & (singular < 1.3)).all()
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


@pytest.mark.parametrize("ema", [None, 0.99])
@pytest.mark.parametrize("optimizer", BUILDERS)
def test_memory_as_foretold(optimizer: str, ema: float | None) -> None:
    config = OptimConfig(optimizer=optimizer, ema=ema)
    shape = ModelConfig(family="llama", vocab_size=131, context=16, layers=2, width=96, heads=3)
    with torch.device("meta"):
        foretold = state_bytes(Transformer(shape), config)
    model = Transformer(shape)
    optimizers = build_optimizers(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for each in optimizers:
        each.step()
    kept = [value for each in optimizers for state in each.state.values() for value in state.values() if value.ndim]
    kept += WeightAverage(list(model.parameters()), ema).weights if ema else []
    assert foretold == sum(value.numel() * value.element_size() for value in kept)

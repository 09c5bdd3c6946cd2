"""Every weight is updated once, by the right rule."""

import pytest
import torch

from storylm.config.model import ModelConfig
from storylm.config.schema import OptimConfig
from storylm.model.transformer import Transformer
from storylm.optim.build import build_optimizers, set_learning_rates

MODELS = {
    family: ModelConfig(family=family, vocab_size=31, context=16, layers=2, width=24, heads=3)
    for family in ("gpt_neo", "gpt2", "llama", "qwen3")
}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
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
    muon, adamw = build_optimizers(model, OptimConfig(optimizer="muon", muon_lr=0.03, embedding_lr=0.5, lr=0.01))
    hidden = {id(p) for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert {id(p) for group in muon.param_groups for p in group["params"]} == hidden
    set_learning_rates([muon, adamw], 0.5)
    assert [group["lr"] for group in muon.param_groups] == [0.015]
    assert sorted(group["lr"] for group in adamw.param_groups) == [0.005, 0.25]


def test_adamw_equals_the_formula() -> None:
    """Loshchilov & Hutter 2019, written out for two steps."""
    model = Transformer(MODELS["llama"]).double()
    config = OptimConfig(lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2)
    (optimizer,) = build_optimizers(model, config)
    weight = model.blocks[0].ff.up.weight
    expected, first, second = weight.detach().clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    for step in (1, 2):
        gradients = torch.randn_like(weight)
        weight.grad = gradients.clone()
        set_learning_rates([optimizer], 0.5)
        optimizer.step()
        first = 0.8 * first + 0.2 * gradients
        second = 0.9 * second + 0.1 * gradients**2
        expected *= 1 - 0.05 * 0.2
        expected -= 0.05 * (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-6)
        torch.testing.assert_close(weight.detach(), expected)

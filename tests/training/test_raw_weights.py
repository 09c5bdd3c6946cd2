"""Runs that average their weights: what is judged and saved is the average, what goes on are the weights."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import storylm
import storylm.training.learner as learner
from storylm.config.errors import CheckpointError
from storylm.data.prepare import prepare_cached
from storylm.evaluation.likelihood import evaluate
from storylm.optim.average import WeightAverage
from storylm.optim.update import clip_gradients
from storylm.training.raw_weights import raw_tensors, restore_raw
from storylm.training.run import resume_run, train_run
from training.runs import At, interrupt


def parts(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights of the model in a checkpoint, and those beside it."""
    beside = load_file(checkpoint / "trainer_state.safetensors")
    model, _ = storylm.load(checkpoint)
    return model.state_dict(), {
        name.removeprefix("weights/"): tensor for name, tensor in beside.items() if name.startswith("weights/")
    }


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_model_saved_is_the_average_of_the_weights_after_each_step(small, tmp_path) -> None:
    train_run(small("train.save_every=0", "train.keep_every=1", "optim.ema=0.8", "train.steps=6"), tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    expected = None
    for update in range(6):
        average, weights = parts(checkpoints / f"step-{update + 1:08d}")
        if expected is None:  # begins as the weights before the first step, which no checkpoint has: take it from there
            expected = {name: (average[name] - 0.9 * weights[name]) / 0.1 for name in weights}
        share = min(0.8, (1 + update) / (10 + update))
        for name, weight in weights.items():
            expected[name] = share * expected[name] + (1 - share) * weight
            torch.testing.assert_close(average[name], expected[name], rtol=1e-4, atol=1e-6)
        assert not equal(average, weights)


def test_the_figure_is_that_of_the_saved_model(small, tmp_path) -> None:
    config = small("optim.ema=0.8", "train.eval_stories=null")
    result = train_run(config, tmp_path / "run")
    assert result.validation is not None
    stories = prepare_cached(config).validation_stories()
    assert evaluate(*storylm.load(result.model), stories) == result.validation
    figures = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result.validation.bits_per_byte in [line.get("bits_per_byte") for line in figures]


def test_averaging_changes_no_weight_and_may_begin_and_end_with_a_resume(small, tmp_path) -> None:
    train_run(small(), tmp_path / "plain")
    weights, nothing = parts(tmp_path / "plain/checkpoints/last")
    assert nothing == {}
    for name, first, then in (("ends", "0.8", "null"), ("begins", "null", "0.8")):
        run = tmp_path / name
        train_run(small(f"optim.ema={first}"), run, observers=[At(9, interrupt)])
        resume_run(run, [f"optim.ema={then}"])
        model, beside = parts(run / "checkpoints/last")
        assert equal(model if then == "null" else beside, weights), name


def test_an_update_that_is_not_finite_leaves_the_average_alone(small, tmp_path, monkeypatch) -> None:
    changed: list[bool] = []
    original = WeightAverage.update

    def update(self: WeightAverage, applied: torch.Tensor) -> None:
        before = [weight.clone() for weight in self.weights]
        original(self, applied)
        changed.append(any(not torch.equal(a, b) for a, b in zip(before, self.weights, strict=True)))

    monkeypatch.setattr(WeightAverage, "update", update)
    factors = itertools.cycle([1.0, math.nan])
    monkeypatch.setattr(learner, "clip_gradients", lambda *given: clip_gradients(*given) * next(factors))
    train_run(small("optim.ema=0.8"), tmp_path / "run")
    assert changed == [True, False] * 6


def test_damage_is_seen() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(list(model.parameters()), 0.9)
    tensors = raw_tensors(model, average)
    assert restore_raw(model, average, tensors | {"bias/exp_avg": torch.ones(2)}).keys() == {"bias/exp_avg"}
    with pytest.raises(CheckpointError, match="lacks 'weights/bias'"):
        restore_raw(model, average, {name: tensor for name, tensor in tensors.items() if name != "weights/bias"})
    with pytest.raises(CheckpointError, match="'weights/weight'"):
        restore_raw(model, average, tensors | {"weights/weight": torch.ones(2, 3).T})

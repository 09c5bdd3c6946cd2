"""Numbers that are none, and losses that leap, poison no checkpoint; updates that are left out are counted."""

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice, product
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import storylm.training.learner as learner_module
from reliability.rows import SEED, sizes
from storylm.config.load import apply_overrides
from storylm.config.schema import RunConfig
from storylm.training.learner import Learner
from storylm.training.run import RunResult, train_run

STEPS = 12  # one epoch
PLAIN = ("train.epochs=1", "train.save_every=1", "train.keep_every=1", "train.eval_every=0", "train.sample_every=0")
"""Every step is saved and kept, so that one poisoned checkpoint among them shows."""


@pytest.fixture
def plain(two_epochs: RunConfig) -> RunConfig:
    return apply_overrides(two_epochs, PLAIN)


@contextmanager
def spoiled(spoil: Callable[[Learner, int], None] = lambda learner, step: None, **losses: dict[int, float]) -> Iterator:
    """Before update number `step` (from 0) `spoil(learner, step)` is called; its loss is multiplied by `losses`."""
    update, loss, step = Learner.update, learner_module.next_token_loss, -1

    def watched(self, *arguments, **options):
        nonlocal step
        step += 1
        spoil(self, step)
        return update(self, *arguments, **options)

    def multiplied(*arguments, **options):
        nats, tokens = loss(*arguments, **options)
        return nats * losses.get("factors", {}).get(step, 1.0), tokens

    with patch.object(Learner, "update", watched), patch.object(learner_module, "next_token_loss", multiplied):
        yield


def spoil_gradients(values: dict[int, float]) -> Callable[[Learner, int], None]:
    """One element of one gradient becomes the value of its step."""

    def spoil(learner: Learner, step: int) -> None:
        if step in values:
            parameter = random.Random(step).choice(list(learner.model.parameters()))

            def hook(gradient: torch.Tensor) -> torch.Tensor:
                handle.remove()
                gradient = gradient.clone()
                gradient.view(-1)[-1] = values[step]
                return gradient

            handle = parameter.register_hook(hook)

    return spoil


def poisoned_checkpoints(run: Path) -> int:
    """How many checkpoints hold a number that is none, among weights or optimizer state."""
    files = (run / "checkpoints").rglob("*.safetensors")
    return len({path.parent for path in files for tensor in load_file(path).values() if not tensor.isfinite().all()})


def losses(run: Path) -> list[float | None]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@sizes("numbers")
def test_numbers(count: int, plain: RunConfig, tmp_path: Path, figures: Callable[..., None]) -> None:
    chance = random.Random(SEED)
    kinds = cycle(product((math.nan, math.inf, -math.inf), ("loss", "gradient")))
    bad = skipped = poisoned = 0
    for number, (value, where) in enumerate(islice(kinds, count)):
        values = dict.fromkeys(chance.sample(range(STEPS), chance.randrange(1, 4)), value)
        with spoiled(factors=values) if where == "loss" else spoiled(spoil_gradients(values)):
            result = train_run(plain, tmp_path / str(number))
        assert (result.reason, result.steps) == ("finished", STEPS)
        bad += len(values)
        skipped += result.skipped
        poisoned += poisoned_checkpoints(result.folder)
        assert [step for step, loss in enumerate(losses(result.folder)) if loss is None] == sorted(values)
    assert skipped == bad
    assert poisoned == 0

    normal = train_run(plain, tmp_path / "normal")
    with spoiled(factors={chance.randrange(3, 9): 1e6}):
        leapt = train_run(plain, tmp_path / "leapt")
    assert leapt.skipped == 0
    last, undisturbed = losses(leapt.folder)[-1], losses(normal.folder)[-1]
    assert last is not None
    assert undisturbed is not None
    spike = abs(last / undisturbed - 1)
    assert spike < 0.05
    figures("numbers", count, bad=bad, skipped=skipped, poisoned=poisoned, spike=spike)


LOOKS = {"saved": "train.save_every=1", "judged": "train.eval_every=1", "told": "train.sample_every=1"}
"""What looks at the weights after every update, and finds them broken. Where nothing does, the losses show it."""


def run_broken(config: RunConfig, folder: Path, at: int | None) -> RunResult:
    """A weight that becomes NaN before update `at` (from 0); or, None, all of them, because of the learning rate."""

    def spoil(learner: Learner, step: int) -> None:
        if step == at:
            with torch.no_grad():
                random.Random(step).choice(list(learner.model.parameters())).view(-1)[-1] = math.nan

    with spoiled(spoil):
        return train_run(apply_overrides(config, ["optim.lr=1e39"]) if at is None else config, folder)


@sizes("broken")
def test_broken(
    count: int, plain: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: Callable[..., None]
) -> None:
    chance = random.Random(SEED)
    poisoned = 0
    for number, (look, broken_by) in enumerate(islice(cycle(product((None, *LOOKS), ("memory", "rate"))), count)):
        at = chance.randrange(1, STEPS - 4) if broken_by == "memory" else None
        overrides = [
            "train.max_bad_steps=3",
            "train.save_every=4",
            "train.keep_every=4",
            *filter(None, [LOOKS.get(look)]),
        ]
        result = run_broken(apply_overrides(plain, overrides), tmp_path / str(number), at)
        said = capsys.readouterr().out
        assert (result.reason, result.exit_code) == ("diverged", 1)
        first_bad = 0 if at is None else at
        assert first_bad < result.steps <= first_bad + 4
        if look is not None:
            assert result.steps == first_bad + 1
            assert "weights are no longer finite numbers" in said
        assert "lower optim.lr" in said
        poisoned += poisoned_checkpoints(result.folder)
    assert poisoned == 0
    figures("broken", count, poisoned=poisoned)

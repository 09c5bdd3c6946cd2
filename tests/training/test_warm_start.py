"""A start as a bigram model: what it predicts before the first step."""

import math
import sys

import numpy as np
import pytest
import torch

from storylm.config.errors import UsageError
from storylm.data.prepare import prepare_cached
from storylm.model.loss import token_nats
from storylm.training.run import new_model, train_run
from storylm.training.warm_start import count_pairs, fit_bigrams, warm_start
from training.runs import record_of

ABLE = ("model.tied=false", "model.init_outputs=zero", "train.warm_start=bigrams")


class Ring:
    """A `TokenSet` of these tokens."""

    def __init__(self, tokens):
        self.ids, self.tokens = np.array(tokens), len(tokens)

    def window(self, start, length):
        return np.take(self.ids, range(start, start + length), mode="wrap")


def entropy_after(pairs) -> float:
    """Of the next token, the one before being known: nats."""
    share = pairs / pairs.sum(1, keepdim=True).clamp_min(1)
    return float(-(pairs * share.clamp_min(1e-9).log()).sum() / pairs.sum())


def test_pairs_are_counted_around_the_ring(monkeypatch) -> None:
    ids = np.random.default_rng(0).integers(0, 7, 500)
    expected = np.zeros((7, 7))
    for one, other in zip(ids, [*ids[1:], ids[0]], strict=True):
        expected[one, other] += 1
    assert (count_pairs(Ring(ids), 7).numpy() == expected).all()
    monkeypatch.setattr(sys.modules["storylm.training.warm_start"], "PIECE", 3)
    assert (count_pairs(Ring(ids), 7).numpy() == expected).all()


def test_enough_width_gives_the_conditional_distribution() -> None:
    """Of a chain in which few tokens follow each; what it cannot know is the entropy of that."""
    generator = torch.Generator().manual_seed(0)
    chances = torch.softmax(3 * torch.randn(48, 48, generator=generator), 1)
    pairs = (chances * 5000).round()
    embeddings, head = fit_bigrams(pairs, 40, seed=0)
    assert embeddings.square().mean(1) == pytest.approx(torch.ones(48), abs=1e-3)
    nats = -(pairs * torch.log_softmax(embeddings @ head.T, 1)).sum() / pairs.sum()
    entropy = entropy_after(pairs)
    assert entropy < nats < entropy + 0.1


def test_the_first_loss_is_a_bigram_models(small) -> None:
    config = small(*ABLE)
    stories = prepare_cached(config, quiet=True).split("train")
    pairs = count_pairs(stories, 320)
    entropy = entropy_after(pairs)
    tokens = torch.from_numpy(stories.window(0, 4001))
    losses = {}
    for kind in ("cold", "warm"):
        model = new_model(config)
        if kind == "warm":
            warm_start(model, stories, seed=0)
        rows = tokens[:-1].view(-1, 50)
        hidden = model.hidden(rows)
        losses[kind] = token_nats(hidden, model.head_weight, tokens[1:].view(-1, 50)).mean().item()
    assert losses["cold"] == pytest.approx(math.log(320), abs=0.1)
    assert losses["warm"] < entropy + 0.5 < losses["cold"] - 2


def test_a_run_begins_with_it_and_goes_on_without(small, tmp_path) -> None:
    from training.runs import At, interrupt

    config = small(*ABLE, "train.log_every=1")
    train_run(config, tmp_path / "whole")
    train_run(config, tmp_path / "parts", observers=[At(3, interrupt)])
    first = record_of(tmp_path / "whole")["metrics"][0]["loss"]
    assert first < math.log(320) - 1
    train_run(config, tmp_path / "parts")
    for name in ("last", "optimizer"):
        assert record_of(tmp_path / "whole")[name] == _files(tmp_path / "parts")[name]


def _files(folder):
    last = folder / "checkpoints/last"
    return {
        "last": (last / "model.safetensors").read_bytes(),
        "optimizer": (last / "trainer_state.safetensors").read_bytes(),
    }


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.tied=true",), "needs model.tied=false"),
        (("model.init_outputs=same",), "needs model.init_outputs=zero"),
        (("model.family=gpt2",), "needs model.norm=rmsnorm and model.positions=rotary"),
        (("model.vocab_size=20000",), "needs model.vocab_size=16384, at most"),
        (("model.width=512", "model.vocab_size=300"), "needs model.width=300, at most"),
    ],
)
def test_what_cannot_begin_so_says_what_is_missing(overrides, said, small) -> None:
    small(*ABLE)
    with pytest.raises(UsageError, match=said):
        small(*ABLE, *overrides)

"""Random batches have the shape of the real ones."""

import pytest
import torch

from storylm.data.batches import IGNORED
from storylm.training.random_batches import RandomBatches


def test_packed_rows_are_full_and_the_same_for_the_same_step(small) -> None:
    batches = RandomBatches(small("train.accumulation=3"), story_tokens=20)
    batch = batches.batch(2, 1)
    assert batch.tokens_BT.shape == batch.targets_BT.shape == (4, 64)
    assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])
    assert (batch.targets_BT != IGNORED).all()
    assert torch.equal(batch.tokens_BT, batches.batch(2, 1).tokens_BT)
    assert not torch.equal(batch.tokens_BT, batches.batch(2, 2).tokens_BT)
    assert int(batch.tokens_BT.max()) < 320
    assert batch.documents_BT is None
    assert (batches.micro_batches(), batches.tokens_per_epoch) == (3, 64)


def test_padded_rows_are_as_wide_as_they_come_and_then_as_they_mostly_are(small) -> None:
    batches = RandomBatches(small("data.layout=padded", "model.context=256"), story_tokens=40, rows=3)
    assert [batches.batch(step).tokens_BT.shape for step in (0, 1, 2)] == [(3, 256), (3, 96), (3, 96)]  # 2 x 40 in 32s
    assert [int((batches.batch(step).targets_BT != IGNORED).sum()) for step in (0, 1)] == [3 * 40, 3 * 40]
    assert batches.tokens_per_epoch == 40


@pytest.mark.parametrize("story", [64, 1000])
def test_no_row_is_longer_than_the_context(small, story) -> None:
    batches = RandomBatches(small("data.layout=padded"), story)
    assert batches.batch(1).tokens_BT.shape == (4, 64)
    assert batches.tokens_per_epoch == 64


def test_stories_that_are_kept_apart(small) -> None:
    batch = RandomBatches(small("data.separate_stories=true"), 20).batch(0)
    assert batch.positions_BT is not None
    assert batch.documents_BT is not None
    assert batch.positions_BT[1].tolist() == [*range(32), *range(32)]
    assert batch.documents_BT[1].tolist() == [0] * 32 + [1] * 32

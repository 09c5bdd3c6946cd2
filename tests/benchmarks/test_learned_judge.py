"""The benchmark of the learned judge, with features made up for it."""

from types import SimpleNamespace

import numpy as np
import pytest
from learned_judge import Seen, compare

from storylm.evaluation.damage import DAMAGES
from storylm.evaluation.judge.examples import examples

STORIES = [
    f'Once there was a boy named Tom. Tom had {n} dogs. He saw Lily. "Hi, Tom!" said Lily. They ran to Lily\'s house.'
    for n in range(40)
]


def seen(kind: str, seed: int) -> Seen:
    """Features that show one kind of damage and are blind to every other."""
    found = examples(STORIES, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(len(found), 3))
    shown = np.array([3 * one.severity * (one.kind == kind) for one in found])
    blind = SimpleNamespace(
        features_SF=np.column_stack([shown, noise[:, 1:]]), bits_per_byte=noise[:, 0], sizes=noise[:, 1]
    )
    return Seen(found, blind)  # type: ignore[arg-type]


def test_a_kind_is_told_by_who_has_learned_it_and_not_by_who_has_not() -> None:
    rows = compare(seen("swapped words", 0), seen("swapped words", 1))
    assert set(rows) == {"any", *DAMAGES}
    assert rows["swapped words"]["judge"]["auc"] > 0.95
    assert rows["swapped words"]["judge"]["order"] > 0.95
    assert 0.2 < rows["swapped words"]["judge, unseen"]["auc"] < 0.8  # nothing else has it in the features
    assert rows["shuffled sentences"]["judge"]["auc"] == pytest.approx(0.5, abs=0.2)
    assert rows["swapped words"]["bits per byte"]["auc"] == pytest.approx(0.5, abs=0.2)
    assert rows["cut off"]["judge"]["order"] is None  # cut or not

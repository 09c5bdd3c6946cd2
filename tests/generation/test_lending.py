"""Readers that are lent again tell what new ones would."""

import gc
import weakref

import pytest
import torch

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.generation import lending
from storylm.generation.engine import generate, stream
from storylm.generation.lending import lent_reader


@pytest.fixture
def model():
    return build(ModelConfig(**{**SHAPE, **VARIANTS["qwen3"], "context": 300})).eval()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list:
    """The readers that were built, as slots and capacity."""
    readers: list[tuple[int, int]] = []
    build_reader = lending.build_reader

    def noted(model, slots, capacity, precision):
        readers.append((slots, capacity))
        return build_reader(model, slots, capacity, precision)

    monkeypatch.setattr(lending, "build_reader", noted)
    return readers


def test_a_reader_is_lent_again_where_it_has_room(model, built, letters, by):
    first = generate(model, letters, ["a", "bcd"], max_new_tokens=20)
    assert generate(model, letters, ["a", "bcd"], max_new_tokens=20) == first
    assert generate(model, letters, ["a"], max_new_tokens=90)[0].startswith(first[0])
    assert built == [(2, 128)]
    generate(model, letters, ["a"] * 3, max_new_tokens=20)
    generate(model, letters, "a", max_new_tokens=250)
    generate(model, letters, "a", max_new_tokens=5, precision="bf16")
    assert built[1:] == [(3, 128), (1, 256), (1, 128)]


CHANGES = {
    "in place": lambda model: torch.nn.init.normal_(model.blocks[1].ff.up.weight),
    "by .data": lambda model: model.blocks[1].ff.up.weight.data.mul_(1.5),
    "one number": lambda model: model.norm.weight.data[:1].add_(0.5),
    "another tensor": lambda model: setattr(model.embedding, "weight", torch.nn.Parameter(model.embedding.weight * 2)),
    "of a module": lambda model: model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_changed_are_read_anew(change, model, built, letters, by):
    before = generate(model, letters, "a", max_new_tokens=20, temperature=0)
    CHANGES[change](model)
    after = generate(model, letters, "a", max_new_tokens=20, temperature=0)
    assert len(built) == 2
    assert after != before


def test_while_one_is_lent_another_is_built(model, built, letters, by):
    settings = {"max_new_tokens": 30, "temperature": 1.0}
    alone = "".join(stream(model, letters, "a", **settings))
    pieces = stream(model, letters, "a", **settings)
    told = next(pieces) + next(pieces)
    assert generate(model, letters, ["a", "b"], seed=5, **settings) == generate(
        model, letters, ["a", "b"], seed=5, **settings
    )
    assert told + "".join(pieces) == alone


def test_what_failed_is_not_lent_again_and_in_training_none_is_kept(model, letters, by):
    kept = len(lending._kept)
    with pytest.raises(RuntimeError, match="halfway"), lent_reader(model, 1, 20):
        raise RuntimeError("halfway")
    generate(model.train(), letters, "a", max_new_tokens=2)
    assert len(lending._kept) == kept
    with pytest.raises(UsageError, match="capacity=301"), lent_reader(model.eval(), 1, 301):
        pass


def test_none_outlives_its_model(letters, by):
    model = build(ModelConfig(**{**SHAPE, **VARIANTS["gpt_neo"]})).eval()
    generate(model, letters, "a", max_new_tokens=2)
    reader = weakref.ref(lending._kept[model].reader)
    assert reader() is not None
    del model
    gc.collect()
    assert reader() is None

"""What must hold for every preset, at its own size: the mistakes that published trainings made."""

# B batch, T tokens, V vocabulary

import math
from functools import lru_cache

import pytest
import torch

from storylm.config.load import preset, preset_names
from storylm.generation.cache import SlotCache
from storylm.model.loss import IGNORED, next_token_loss
from storylm.model.transformer import Transformer

LENGTH = 24
every_preset = pytest.mark.parametrize("name", preset_names())


@lru_cache(maxsize=1)  # tests run preset by preset, and a large one takes a while to draw
def fresh(name: str) -> Transformer:
    return Transformer(preset(name).model).initialise(torch.Generator().manual_seed(0)).eval()


@lru_cache(maxsize=1)
def busy(name: str) -> Transformer:
    """Small where size does not matter, with weights large enough for attention to, and short windows."""
    config = preset(name).model
    windows = tuple(None if window is None else min(window, 7) for window in config.windows)
    small = {"windows": windows, "layers": min(config.layers, 3), "vocab_size": min(config.vocab_size, 512)}
    large = {"init_outputs": "same", "init_std": 1.2 / config.width**0.5}
    config = config.model_copy(update=small | large)
    return Transformer(config).initialise(torch.Generator().manual_seed(1)).eval()


def tokens(model: Transformer, rows: int, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(2))


@every_preset
@torch.inference_mode()
def test_the_first_loss_is_that_of_a_guess(name: str) -> None:
    model = fresh(name)
    tokens_BT = tokens(model, 4, min(64, model.config.context))
    nats, count = next_token_loss(model.hidden(tokens_BT[:, :-1]), model.head_weight, tokens_BT[:, 1:])
    assert float(nats) / int(count) == pytest.approx(math.log(model.config.vocab_size), rel=0.05)


@every_preset
@torch.inference_mode()
def test_no_logit_depends_on_a_later_token_and_each_on_earlier_ones(name: str) -> None:
    model, place = busy(name), 11
    tokens_BT = tokens(model, 1)
    changed_BT = tokens_BT.clone()
    changed_BT[:, place] = (changed_BT[:, place] + 1) % model.config.vocab_size
    before_TD, after_TD = model.hidden(torch.cat([tokens_BT, changed_BT]))
    torch.testing.assert_close(after_TD[:place], before_TD[:place], rtol=0, atol=1e-5)
    assert ((after_TD[place:] - before_TD[place:]).abs().amax(dim=1)[:7] > 1e-3).all()


@every_preset
@torch.inference_mode()
def test_padding_on_the_right_changes_nothing(name: str) -> None:
    model = busy(name)
    tokens_BT = tokens(model, 2)
    real = LENGTH - 6
    tokens_BT[:, real:] = 0
    targets_BT = tokens_BT.roll(-1, dims=1)
    targets_BT[:, real - 1 :] = IGNORED
    padded_BTD, plain_BTD = model.hidden(tokens_BT), model.hidden(tokens_BT[:, :real])
    torch.testing.assert_close(padded_BTD[:, :real], plain_BTD, rtol=0, atol=1e-4)
    padded, count = next_token_loss(padded_BTD, model.head_weight, targets_BT)
    plain, plain_count = next_token_loss(plain_BTD, model.head_weight, targets_BT[:, :real])
    assert count == plain_count == 2 * (real - 1)
    torch.testing.assert_close(padded, plain, rtol=1e-5, atol=0)


@every_preset
@torch.inference_mode()
def test_cached_decoding_equals_uncached(name: str) -> None:
    """The first tokens at once, the rest one by one, beyond the window."""
    model = busy(name)
    tokens_BT, cache = tokens(model, 2, 16), SlotCache(slots=2, capacity=16).use(None, used=16)
    places_BT = torch.arange(16).expand_as(tokens_BT)
    parts = [slice(0, 5), *(slice(place, place + 1) for place in range(5, 16))]
    cached_BTD = torch.cat([model.hidden(tokens_BT[:, part], places_BT[:, part], cache=cache) for part in parts], dim=1)
    torch.testing.assert_close(cached_BTD, model.hidden(tokens_BT), rtol=0, atol=1e-4)

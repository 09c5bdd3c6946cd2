import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from storylm.generation.attention_maps import attention_maps


def test_weights_times_values_are_what_attention_makes_of_them(model):
    """Of every family, grouped heads and windows among them."""
    tokens = torch.randint(257, (20,), generator=torch.Generator().manual_seed(0)).tolist()
    maps = attention_maps(model.train(), tokens)
    config = model.config
    torch.testing.assert_close(attention_maps(model, tokens, 13), maps[:, :, 13:14], rtol=0, atol=1e-6)
    assert maps.shape == (config.layers, config.heads, 20, 20)
    assert model.training
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:3]), rtol=0, atol=1e-5)
    for layer in range(config.layers):
        window = config.window(layer) or 20
        places = torch.arange(20)
        distance = places[:, None] - places
        assert bool((maps[layer][:, (distance < 0) | (distance >= window)] == 0).all())
    heard: list[tuple] = []
    attention = model.blocks[1].attention
    attention.out.register_forward_pre_hook(lambda part, given: heard.append(given))
    attention.register_forward_pre_hook(lambda part, given: heard.append(given))
    with torch.inference_mode():
        model.eval()(torch.tensor([tokens]))
        x, y = heard[0][0], heard[1][0]
        v = attention.v(x).unflatten(-1, (config.kv_heads, -1)).transpose(1, 2)
        v = v.repeat_interleave(config.heads // config.kv_heads, dim=1)
        expected = (maps[1] @ v[0]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y[0], expected, rtol=0, atol=1e-5)


def test_a_text_too_long_is_refused(model):
    with pytest.raises(Exception, match="does not fit"):
        attention_maps(model, [1] * 49)


def test_two_at_once_do_not_mix_and_nobody_sees_the_model_change(model):
    texts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [99, 98, 97, 96, 95, 94]]
    alone = [attention_maps(model, tokens) for tokens in texts]
    both, modes = threading.Barrier(2), []

    def meet(part, given):
        both.wait(timeout=20)
        modes.append(model.training)

    model.train().blocks[1].attention_norm.register_forward_pre_hook(meet)
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda tokens: attention_maps(model, tokens), texts))
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected)
    assert modes == [True, True]

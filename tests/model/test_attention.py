"""`visible` is the one definition of which keys a query may see; attention is held to it."""

import itertools

import pytest
import torch

from storylm.config.model import ModelConfig
from storylm.model.attention import Attention, attention
from storylm.model.positions import rotate
from storylm.model.sight import Sight, build_sights, first_visible, visible
from storylm.model.transformer import Transformer


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("separate", [False, True])
def test_visible_says_what_the_words_say(window: int | None, separate: bool) -> None:
    positions = torch.arange(9)[None]
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]]) if separate else None
    seen = visible(positions, positions, window, documents, documents)[0]
    for query, key in itertools.product(range(9), range(9)):
        expected = key <= query and (window is None or query - key < window)
        if documents is not None:
            expected = expected and bool(documents[0, query] == documents[0, key])
        assert seen[query, key] == expected, (query, key)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("separate", [False, True])
def test_first_visible_says_the_same_as_visible(window: int | None, separate: bool) -> None:
    places = torch.arange(9)[None]
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [4, 5, 5, 5, 5, 5, 5, 5, 6]]) if separate else None
    first = first_visible(9, window, documents)
    assert ((places[:, None, :] >= first[:, :, None]) & (places[:, None, :] <= places[:, :, None])).equal(
        visible(places, places, window, documents, documents)
    )


@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_attention_equals_a_loop_over_visible_keys(window: int | None, kernels: str) -> None:
    """Grouped heads, a scale of its own, windows shorter and longer than the text."""
    config = ModelConfig(
        family="llama",
        width=20,
        heads=6,
        kv_heads=2,
        head_dim=4,
        positions="none",
        windows=(window,),
        attention_scale=0.7,
    )
    torch.manual_seed(0)
    layer = Attention(config, layer=0)
    x = torch.randn(2, 9, 20)
    positions = torch.arange(9)[None]
    sight = build_sights((window,), positions, None, None, rows=2)[window]
    assert (sight.first_BT is not None) == (kernels == "native")
    # Torch's fast path is taken where it is the same thing.
    assert (sight.mask_BTS is None) == (kernels == "native" or window in (None, 50))
    q, k, v = (part(x).view(2, 9, -1, 4) for part in (layer.q, layer.k, layer.v))
    seen = visible(positions, positions, window)[0]
    expected = torch.zeros(2, 9, 6, 4)
    for row, head, query in itertools.product(range(2), range(6), range(9)):
        keys = seen[query].nonzero().flatten()
        scores = 0.7 * k[row, keys, head // 3] @ q[row, query, head]
        expected[row, query, head] = scores.softmax(0) @ v[row, keys, head // 3]
    torch.testing.assert_close(layer(x, positions, None, sight), layer.out(expected.flatten(2)))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_way_to_compute_attention_finds_the_same(kernels: str) -> None:
    """Windows and separate stories, by each kind of `Sight` (FlexAttention's as far as a CPU can: forward)."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 130, 16), torch.randn(2, 2, 130, 16), torch.randn(2, 2, 130, 16)
    positions, documents = torch.arange(130)[None], torch.randint(9, (2, 130)).eq(0).cumsum(1)
    for window in (None, 20):
        sight = build_sights((window,), positions, documents, None, 2)[window]
        expected = attention(q, k, v, Sight(mask_BTS=visible(positions, positions, window, documents, documents)), 0.3)
        torch.testing.assert_close(attention(q, k, v, sight, 0.3), expected)
        if kernels == "torch":
            flexible = build_sights((window,), positions, documents, None, 2, flexible=True)[window]
            assert flexible.blocks is not None
            torch.testing.assert_close(attention(q, k, v, flexible, 0.3), expected)


def test_separate_stories_do_not_see_each_other(kernels: str) -> None:
    """Stories side by side in a row, positions anew in each and other lengths in each row, are what each is alone."""
    torch.manual_seed(0)
    for family in ("gpt_neo", "gpt2", "llama"):
        config = ModelConfig(family=family, vocab_size=31, context=16, layers=2, width=24, heads=3, init_std=0.2)
        model = Transformer(config).initialise(torch.Generator().manual_seed(1)).eval()
        rows = [[torch.randint(31, (length,)) for length in lengths] for lengths in ((5, 7), (9, 3))]
        together = model(
            torch.stack([torch.cat(row) for row in rows]),
            positions_BT=torch.stack([torch.cat([torch.arange(len(story)) for story in row]) for row in rows]),
            documents_BT=torch.tensor([[0] * 5 + [1] * 7, [0] * 9 + [1] * 3]),
        )
        for logits, row in zip(together, rows, strict=True):
            alone = torch.cat([model(story[None])[0] for story in row])
            torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rotation_turns_each_plane_by_its_angle(layout: str) -> None:
    angles = torch.tensor([0.3, 1.1])
    x = torch.randn(1, 1, 1, 4)
    turned = rotate(x, (angles.cos().view(1, 1, 1, 2), angles.sin().view(1, 1, 1, 2)), layout)
    pairs = [(0, 2), (1, 3)] if layout == "half" else [(0, 1), (2, 3)]
    for plane, (i, j) in enumerate(pairs):
        as_complex = torch.complex(x[..., i], x[..., j]) * torch.polar(torch.tensor(1.0), angles[plane])
        torch.testing.assert_close(turned[..., i], as_complex.real)
        torch.testing.assert_close(turned[..., j], as_complex.imag)

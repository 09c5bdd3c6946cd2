"""Where attention goes: its weights, layer by layer and head by head, which the fast ways never hold."""

# L layers, H query heads, G key/value heads, B = 1 text, T tokens, Q queries asked about, D width, K head width

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.model.attention import attention
from storylm.model.sight import build_sights, visible
from storylm.model.transformer import Block, Transformer


@torch.inference_mode()
def attention_maps(model: Transformer, tokens: list[int], query: int | None = None) -> Tensor:
    """Attention weights [L, H, T, T] of one text: row t says how query t shares its attention out; rows sum to 1.

    Of one `query` alone, [L, H, 1, T], which takes no memory to speak of. Without dropout, whatever mode the model is
    in; the model is only read, so that other threads may use it meanwhile.

    >>> attention_maps(model, [0, 5, 7]).shape            # doctest: +SKIP
    torch.Size([4, 2, 3, 3])

    Raises:
        UsageError: more tokens than the model's context.
    """
    config, length = model.config, len(tokens)
    if length > config.context:
        raise UsageError(f"a text of {length} tokens does not fit the model's context of {config.context}: shorten it")
    queries = slice(None) if query is None else slice(query, query + 1)
    places_BT = torch.arange(length, device=model.device)[None]
    sights = build_sights(config.windows, places_BT, None, None, rows=1)
    angles = model.positions.angles(places_BT)
    x_BTD = model.positions.add(model.embedding(torch.tensor([tokens], device=model.device)), places_BT)
    found = []
    for block in model.blocks:  # as `Block` does, but holding on to the weights
        assert isinstance(block, Block)
        part, h_BTD = block.attention, block.attention_norm(x_BTD)
        v_BGTK = part.heads(part.v(h_BTD))
        q_BHTK = part.heads(part.q(h_BTD), part.q_norm, angles).to(v_BGTK.dtype)
        k_BGTK = part.heads(part.k(h_BTD), part.k_norm, angles).to(v_BGTK.dtype)
        seen_BQT = visible(places_BT[:, queries], places_BT, part.window)
        found.append(_weights(q_BHTK[:, :, queries], k_BGTK, seen_BQT, part.scale)[0])
        y_BTHK = attention(q_BHTK, k_BGTK, v_BGTK, sights[part.window], part.scale)
        x_BTD = x_BTD + part.out(y_BTHK.flatten(2))
        x_BTD = x_BTD + block.ff(block.ff_norm(x_BTD))
    return torch.stack(found)


def _weights(q_BHQK: Tensor, k_BGTK: Tensor, seen_BQT: Tensor, scale: float) -> Tensor:
    k_BHTK = k_BGTK.repeat_interleave(q_BHQK.shape[1] // k_BGTK.shape[1], dim=1)
    scores_BHQT = q_BHQK.float() @ k_BHTK.float().mT * scale
    return scores_BHQT.masked_fill(~seen_BQT[:, None], float("-inf")).softmax(-1)

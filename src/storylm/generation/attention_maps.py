"""Where attention goes: its weights, layer by layer and head by head, which the fast ways never hold."""

# L layers, H query heads, G key/value heads, T tokens, Q queries, K head width

import threading

import torch
from torch import Tensor, nn

from storylm.model.attention import Attention
from storylm.model.sight import visible
from storylm.model.transformer import Transformer


@torch.inference_mode()
def attention_maps(model: Transformer, tokens: list[int], query: int | None = None) -> Tensor:
    """Attention weights [L, H, T, T] of one text: row t says how query t shares its attention out; rows sum to 1.

    Of one `query` alone, [L, H, 1, T], which takes no memory to speak of.

    >>> attention_maps(model, [0, 5, 7]).shape            # doctest: +SKIP
    torch.Size([4, 2, 3, 3])
    """
    found: list[Tensor] = []

    mine = threading.get_ident()

    def keep(part: nn.Module, given: tuple) -> None:
        assert isinstance(part, Attention)
        if threading.get_ident() != mine:  # a server reads prompts with the same model
            return
        found.append(_weights(part, slice(None) if query is None else slice(query, query + 1), *given[:3]))

    parts = [part for part in model.modules() if isinstance(part, Attention)]
    hooks = [part.register_forward_pre_hook(keep) for part in parts]
    training = model.training
    model.eval()
    try:
        model.hidden(torch.tensor([tokens], device=model.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return torch.stack(found)


def _weights(
    part: Attention, queries: slice, x_BTD: Tensor, positions_BT: Tensor, angles: tuple[Tensor, Tensor] | None
) -> Tensor:
    q_BHQK = part.heads(part.q(x_BTD), part.q_norm, angles)[:, :, queries]
    k_BGTK = part.heads(part.k(x_BTD), part.k_norm, angles)
    k_BHTK = k_BGTK.repeat_interleave(q_BHQK.shape[1] // k_BGTK.shape[1], dim=1)
    scores_BHQT = q_BHQK @ k_BHTK.mT * part.scale
    hidden_BQT = ~visible(positions_BT[:, queries], positions_BT, part.window)
    return scores_BHQT.masked_fill(hidden_BQT[:, None], float("-inf")).softmax(-1)[0]

"""Where attention goes: its weights, layer by layer and head by head, which the fast ways never hold."""

# L layers, H query heads, G key/value heads, T tokens, K head width

import torch
from torch import Tensor, nn

from storylm.model.attention import Attention
from storylm.model.sight import visible
from storylm.model.transformer import Transformer


@torch.inference_mode()
def attention_maps(model: Transformer, tokens: list[int]) -> Tensor:
    """Attention weights [L, H, T, T] of one text: row t says how query t shares its attention out; rows sum to 1.

    >>> attention_maps(model, [0, 5, 7]).shape            # doctest: +SKIP
    torch.Size([4, 2, 3, 3])
    """
    found: list[Tensor] = []

    def keep(part: nn.Module, given: tuple) -> None:
        assert isinstance(part, Attention)
        found.append(_weights(part, *given[:3]))

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


def _weights(part: Attention, x_BTD: Tensor, positions_BT: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
    q_BHTK, k_BGTK = part.heads(part.q(x_BTD), part.q_norm, angles), part.heads(part.k(x_BTD), part.k_norm, angles)
    k_BHTK = k_BGTK.repeat_interleave(q_BHTK.shape[1] // k_BGTK.shape[1], dim=1)
    scores_BHTT = q_BHTK @ k_BHTK.mT * part.scale
    hidden_BTT = ~visible(positions_BT, positions_BT, part.window)
    return scores_BHTT.masked_fill(hidden_BTT[:, None], float("-inf")).softmax(-1)[0]

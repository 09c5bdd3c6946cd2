"""The logit lens: what each layer would say if it were the last (nostalgebraist 2020).

The stream after a layer goes through the model's own last norm and head. It shows at which depth a prediction is made:
early layers repeat or say what is common, later ones know the story.
"""

# L layers + 1: the embeddings, then after each layer; T tokens of the text, V vocabulary, D width

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from storylm.evaluation.inside.reading import inputs_of, read, token_texts
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Guess:
    """The likeliest next token, and its probability."""

    token: str
    probability: float


@dataclass(frozen=True)
class Lens:
    """`guesses[layer][place]` is the guess for what comes after `tokens[place]`; layer 0 sees embeddings alone.

    `leads[place]` is the first layer at which the last one's likeliest token leads, `steady[place]` the first from
    which on it leads in all.
    """

    tokens: tuple[str, ...]
    guesses: tuple[tuple[Guess, ...], ...]
    leads: tuple[int, ...]
    steady: tuple[int, ...]


@torch.inference_mode()
def lens_logits(model: Transformer, tokens: list[int]) -> Tensor:
    """Scores [L + 1, T, V] of what comes next, by the stream after each layer; the last are the model's own."""
    heard: list[Tensor] = []
    parts: list[nn.Module] = [*model.blocks, model.norm]
    with inputs_of(model, parts, lambda _, x_BTD: heard.append(x_BTD[0].clone())):
        model.hidden(torch.tensor([tokens], device=model.device))
    model_norm = model.norm.eval()
    return torch.stack([nn.functional.linear(model_norm(x_TD), model.head_weight) for x_TD in heard])


def look_through(model: Transformer, tokenizer: Tokenizer, text: str, longest: int = 48) -> Lens:
    """The lens over the first tokens of `text`."""
    tokens = read(model, tokenizer, text, longest)
    # A table may have more rows than the tokenizer has tokens.
    best = lens_logits(model, tokens)[..., : tokenizer.vocab_size].float().softmax(-1).max(-1)
    same_LT = best.indices == best.indices[-1]
    # The first of the trailing run of layers that agree with the last.
    steady_LT = same_LT.flip(0).cumprod(0).flip(0)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Lens(
        tuple(token_texts(tokenizer, tokens)),
        tuple(tuple(map(Guess, token_texts(tokenizer, ids), shares)) for ids, shares in rows),
        tuple(same_LT.int().argmax(0).tolist()),
        tuple(steady_LT.int().argmax(0).tolist()),
    )

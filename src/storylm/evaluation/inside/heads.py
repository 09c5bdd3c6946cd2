"""What attention heads look at: a distance, or a meaning.

Eldan and Li (2023, "Interpreting the attention heads") find two kinds of heads in small models of stories: those whose
attention depends on nothing but the distance between two tokens, and semantic ones, which look for tokens of a meaning
wherever they stand. They tell them apart by eye; here it is a figure. The kernel of a head is its mean attention
weight at each distance, over the queries of many stories that see so far. What a query's attention would be by
distance alone is the kernel at the distances of the keys it sees, made to sum to 1. The share by distance is how much
of the attention is where that says, min(weight, expected) summed over keys: 1 for a head that knows only distances. It
is the mean over all queries from the 16th on, since with few keys to choose from all attention looks alike.

Many heads rest on the start token where they find nothing (Xiao et al. 2023): how much, is said beside it.
"""

# L layers, H heads, T tokens of a text

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from storylm.evaluation.inside.reading import read_all
from storylm.generation.attention_maps import attention_maps
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

FROM = 16  # the first query that counts
RESTING = 0.5  # attention on the start token from which a head counts as resting
BY_DISTANCE = 0.5


@dataclass(frozen=True)
class Head:
    """A head's figures: shares between 0 and 1, and the mean distance it looks over, in tokens."""

    layer: int
    head: int
    by_distance: float
    on_start: float
    mean_distance: float

    @property
    def name(self) -> str:
        """Layer and head, counted from 1: "2.3"."""
        return f"{self.layer + 1}.{self.head + 1}"

    @property
    def kind(self) -> str:
        """What it does most: rest on the start token, look at a distance, or for a meaning."""
        if self.on_start >= RESTING:
            return "resting"
        return "distance" if self.by_distance >= BY_DISTANCE else "semantic"


def look_at_heads(
    model: Transformer,
    tokenizer: Tokenizer,
    stories: Sequence[str],
    progress: Callable[[int], None] = lambda story: None,
) -> list[Head]:
    """Every head of the model over `stories`, the one explained best by distance first.

    Of a story the first 256 tokens are read. `progress` is told how many stories are done, in two passes.

    Raises:
        DataError: no story is long enough.
    """
    texts = read_all(model, tokenizer, stories, FROM + 1)
    kernel_LHD = torch.zeros(model.config.layers, model.config.heads, max(map(len, texts)), dtype=torch.float64)
    queries_D = torch.zeros(kernel_LHD.shape[-1], dtype=torch.float64)
    for number, tokens in enumerate(texts, 1):
        maps_LHTT = attention_maps(model, tokens).double().cpu()
        distances_TT = _distances(len(tokens))
        seen_TT = distances_TT >= 0
        seen_TT[:FROM] = False
        kernel_LHD.index_add_(-1, distances_TT[seen_TT], maps_LHTT[..., seen_TT])
        queries_D.index_add_(0, distances_TT[seen_TT], torch.ones(int(seen_TT.sum()), dtype=torch.float64))
        progress(number)
    kernel_LHD /= queries_D
    sums_LH3, queries = torch.zeros(*kernel_LHD.shape[:2], 3, dtype=torch.float64), 0
    for number, tokens in enumerate(texts, 1):
        maps_LHTT = attention_maps(model, tokens).double().cpu()
        sums_LH3 += _sums(maps_LHTT, expected(kernel_LHD, len(tokens)))
        queries += len(tokens) - FROM
        progress(len(texts) + number)
    figures_LH3 = (sums_LH3 / queries).tolist()
    heads = [Head(layer, head, *row) for layer, rows in enumerate(figures_LH3) for head, row in enumerate(rows)]
    return sorted(heads, key=lambda head: -head.by_distance)


def expected(kernel_LHD: Tensor, length: int) -> Tensor:
    """Attention [L, H, T, T] that is the kernel's by distance alone, in a text of `length` tokens.

    >>> expected(torch.tensor([[[3.0, 1.0]]]), 2)[0, 0]
    tensor([[1.0000, 0.0000],
            [0.2500, 0.7500]])
    """
    distances_TT = _distances(length)
    raw_LHTT = kernel_LHD[..., distances_TT.clamp(min=0)] * (distances_TT >= 0)
    return raw_LHTT / raw_LHTT.sum(-1, keepdim=True)


def _sums(maps_LHTT: Tensor, expected_LHTT: Tensor) -> Tensor:
    """Over queries that count, [L, H, 3]: attention where expected, that on the start token, and mean distances."""
    where_LHT = torch.minimum(maps_LHTT, expected_LHTT).sum(-1)
    far_LHT = (maps_LHTT * _distances(maps_LHTT.shape[-1]).clamp(min=0)).sum(-1)
    return torch.stack([each[..., FROM:].sum(-1) for each in (where_LHT, maps_LHTT[..., 0], far_LHT)], dim=-1)


def _distances(length: int) -> Tensor:
    places_T = torch.arange(length)
    return places_T[:, None] - places_T

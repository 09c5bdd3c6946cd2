"""From the scores of the next token to a token: temperature, filters, and the draw.

Every function is pure and works on a batch of rows of scores (logits, up to a constant per row); a token
that a filter rules out gets the score -inf. `Sampling` holds the settings and `choose` applies them all.
"""

# B batch, V vocabulary, K tokens looked at

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.generation.native import kernels
from storylm.generation.native.choose import choose as native_choose

RULED_OUT = float("-inf")
_LIKELIEST = 256  # a trained model's top-p set is nearly always among so many: no sort of 50,000 scores for it


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The filters work in the order of the fields.

    >>> Sampling(temperature=0).greedy
    True
    >>> Sampling(top_p=1.5)
    Traceback (most recent call last):
    storylm.config.errors.UsageError: top_p=1.5 is not allowed: it is above 0 and at most 1

    Raises:
        UsageError: a setting outside its range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        t, k, p, m, r = self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty
        _require(math.isfinite(t) and t >= 0, f"temperature={t}", "0 (the likeliest token always) or above")
        _require(k is None or k >= 1, f"top_k={k}", "1 or more tokens")
        _require(p is None or 0 < p <= 1, f"top_p={p}", "above 0 and at most 1")
        _require(m is None or 0 <= m <= 1, f"min_p={m}", "from 0 to 1")
        _require(math.isfinite(r) and r > 0, f"repetition_penalty={r}", "above 0; 1 changes nothing")

    @property
    def greedy(self) -> bool:
        """Whether there is nothing to draw: the likeliest token always."""
        return self.temperature == 0


def _require(holds: bool, value: str, allowed: str) -> None:
    if not holds:
        raise UsageError(f"{value} is not allowed: it is {allowed}")


def choose(logits_BV: Tensor, samplings: Sequence[Sampling], seeds: Sequence[int], counts: Sequence[int]) -> Tensor:
    """The next token of each row, [B]: each by its own settings, without the repetition penalty.

    A row's draw depends on its scores, the `seed` of its story and the `count` of tokens drawn for it before, and on
    nothing else. On a CPU by `native.choose`, which is the same in C++.
    """
    if kernels(logits_BV.device) is not None and logits_BV.dtype == torch.float32:
        return native_choose(logits_BV, samplings, seeds, counts)
    tokens_B = torch.empty(len(logits_BV), dtype=torch.int64, device=logits_BV.device)
    for sampling in set(samplings):
        rows = [row for row, own in enumerate(samplings) if own == sampling]
        every = slice(None) if len(rows) == len(samplings) else rows
        keys = [(seeds[row], counts[row]) for row in rows]
        tokens_B[every] = choose_alike(logits_BV[every], sampling, keys)
    return tokens_B


def choose_alike(logits_BV: Tensor, sampling: Sampling, keys: Sequence[tuple[int, int]]) -> Tensor:
    """The next token of rows with the same settings, [B]; `keys` are their seeds and counts."""
    logits_BV = logits_BV.float()
    if sampling.greedy:
        return logits_BV.argmax(-1)
    logits_BV = logits_BV / sampling.temperature
    if sampling.top_k is not None:
        logits_BV = keep_top_k(logits_BV, sampling.top_k)
    if sampling.top_p is not None:
        logits_BV = keep_top_p(logits_BV, sampling.top_p)
    if sampling.min_p is not None:
        logits_BV = keep_min_p(logits_BV, sampling.min_p)
    return draw(logits_BV, times(keys, logits_BV))


def penalise_repetition(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Make tokens that were seen before less likely: positive scores / penalty, negative x penalty.

    This is CTRL's (Keskar et al. 2019) as everyone implements it; alone among these functions it depends
    on where a model's scores have their zero.
    """
    penalised_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, penalised_BV, logits_BV)


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Rule out all but the `k` likeliest tokens (Fan et al. 2018)."""
    if k >= logits_BV.shape[-1]:
        return logits_BV
    kept_BK, ids_BK = logits_BV.topk(k)
    return torch.full_like(logits_BV, RULED_OUT).scatter_(-1, ids_BK, kept_BK)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Rule out all but the smallest set of likeliest tokens whose probability reaches `p` (Holtzman et al. 2020).

    >>> keep_top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.6).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if p >= 1:
        return logits_BV
    probability_BV = logits_BV.softmax(-1)
    kept_BV, reached_B = _likeliest(probability_BV, p, among=min(_LIKELIEST, logits_BV.shape[-1]))
    if not reached_B.all():
        # Rows where that many do not make up p, one by one, so that no row depends on those beside it.
        short_B = ~reached_B
        kept_BV[short_B] = _likeliest(probability_BV[short_B], p, among=logits_BV.shape[-1])[0]
    return logits_BV.masked_fill(~kept_BV, RULED_OUT)


def _likeliest(probability_BV: Tensor, p: float, among: int) -> tuple[Tensor, Tensor]:
    """The smallest set that reaches p, [B, V] of bool, sought in the `among` likeliest; and whether they do, [B]."""
    sorted_BK, ids_BK = probability_BV.topk(among)
    likelier_BK = sorted_BK.cumsum(-1) - sorted_BK  # the mass of the tokens before this one
    kept_BV = torch.zeros_like(probability_BV, dtype=torch.bool).scatter(-1, ids_BK, likelier_BK < p)
    return kept_BV, sorted_BK.sum(-1) >= p


def keep_min_p(logits_BV: Tensor, p: float) -> Tensor:
    """Rule out tokens less than `p` times as likely as the likeliest (Nguyen et al. 2024)."""
    if p <= 0:
        return logits_BV
    likeliest_B1 = logits_BV.amax(-1, keepdim=True)
    return logits_BV.masked_fill(logits_BV < likeliest_B1 + math.log(p), RULED_OUT)


def draw(logits_BV: Tensor, times_BV: Tensor) -> Tensor:
    """One token a row with probability softmax(logits), [B].

    Every token runs for an exponential time at the rate of its probability, and the first wins (the
    Gumbel-max trick). Against one uniform number and the inverse of the cumulative probability it costs a
    random number per token, and buys that the rounding of scores hardly ever changes a story: tens of thousands of
    cumulative sums have many edges for a number to fall on the other side of.
    """
    return (times_BV / logits_BV.softmax(-1)).argmin(-1)


def times(keys: Sequence[tuple[int, int]], like_BV: Tensor) -> Tensor:
    """Times for `draw`, exponential at rate 1, [B, V] like `like_BV`: a hash of a row's (seed, count) and the token.

    So a draw needs no state, and is the same on every device. SplitMix64 (Steele et al. 2014) of seed and count, and
    from its halves and the token two rounds of 32-bit finalisers as C. Wellons searched them (hash-prospector).
    """
    halves = [divmod(_splitmix(*key), 2**32) for key in keys]
    high_B1, low_B1 = torch.tensor(halves, device=like_BV.device).T[:, :, None]
    x_BV = torch.arange(like_BV.shape[-1], device=like_BV.device)[None] * 0x9E3779B9 + low_B1 & _ALL
    x_BV = _mixed(x_BV, 16, 0x7FEB352D, 15, 0x846CA68B, 16) ^ high_B1
    x_BV = _mixed(x_BV, 16, 0x21F0AAAD, 15, 0x735A2D97, 15)
    return -(((x_BV >> 9).float() + 0.5) * 2**-23).log()


_ALL = 0xFFFFFFFF


def _mixed(x: Tensor, *steps: int) -> Tensor:
    """Shifts and factors in turn, on 32 bits."""
    for shift, factor in zip(steps[::2], (*steps[1::2], 1), strict=True):
        x = (x ^ (x >> shift)) * factor & _ALL
    return x


def _splitmix(seed: int, count: int) -> int:
    x = (seed + (count + 1) * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)

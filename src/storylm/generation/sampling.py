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


def choose(
    logits_BV: Tensor,
    samplings: Sequence[Sampling],
    seeds: Sequence[int],
    counts: Sequence[int],
    threads: int | None = None,
) -> Tensor:
    """The next token of each row, [B]: each by its own settings, without the repetition penalty.

    A row's draw depends on its scores, the `seed` of its story and the `count` of tokens drawn for it before, and on
    nothing else. On a CPU by `native.choose`, which is the same in C++, on so many `threads` (all of torch's).
    """
    if kernels(logits_BV.device) is not None and logits_BV.dtype == torch.float32:
        return native_choose(logits_BV, samplings, seeds, counts, threads or torch.get_num_threads())
    tokens_B = torch.empty(len(logits_BV), dtype=torch.int64, device=logits_BV.device)
    keys_2B = torch.tensor([[as_int64(seed) for seed in seeds], list(counts)], device=logits_BV.device)
    for sampling in set(samplings):
        rows = [row for row, own in enumerate(samplings) if own == sampling]
        every = slice(None) if len(rows) == len(samplings) else rows
        tokens_B[every] = choose_alike(logits_BV[every], sampling, *keys_2B[:, every])
    return tokens_B


def choose_alike(logits_BV: Tensor, sampling: Sampling, seeds_B: Tensor, counts_B: Tensor) -> Tensor:
    """The next token of rows with the same settings, [B]: `choose` where the scores are, which waits for nothing.

    `seeds_B` and `counts_B` are int64, the seeds by `as_int64`.
    """
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
    return draw(logits_BV, times(seeds_B, counts_B, logits_BV))


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
    return logits_BV.masked_fill(~_nucleus(logits_BV.softmax(-1), p), RULED_OUT)


def _nucleus(probability_BV: Tensor, p: float) -> Tensor:
    """Which tokens are in the smallest set of likeliest ones that reaches `p`, [B, V] of bool.

    Radix selection in place of a sort: the bits of floats above 0 are in the order of the floats, so the probability of
    the last token that is needed is found digit by digit, from the mass of the tokens with each digit. Masses are whole
    numbers, whose sum is the same in any order.
    """
    bits_BV, mass_BV = probability_BV.view(torch.int32).long(), (probability_BV * _WHOLE).long()
    goal, alike_BV = max(round(p * _WHOLE), 1), torch.ones_like(bits_BV, dtype=torch.bool)
    last_B1 = likelier_B1 = bits_BV.new_zeros(len(bits_BV), 1)
    for shift in (2 * _DIGIT, _DIGIT, 0):
        digits_BV = bits_BV >> shift & _DIGITS - 1
        by_digit_BK = mass_BV.new_zeros(len(bits_BV), _DIGITS).scatter_add_(1, digits_BV, mass_BV * alike_BV)
        above_BK = likelier_B1 + by_digit_BK.flip(1).cumsum(1).flip(1) - by_digit_BK
        digit_B1 = (above_BK >= goal).sum(1, keepdim=True)  # the largest with which the goal is reached
        last_B1, likelier_B1 = last_B1 | digit_B1 << shift, above_BK.gather(1, digit_B1)
        alike_BV &= digits_BV == digit_B1
    # Of several that are as likely, no more than are needed.
    before_BV = likelier_B1 + (mass_BV * alike_BV).cumsum(1) - mass_BV
    return (bits_BV > last_B1) | alike_BV & (before_BV < goal)


_DIGIT = 10  # bits of one: a probability has three, as 1.0 is 127 << 23
_DIGITS = 2**_DIGIT
_WHOLE = 2**40  # the mass of all tokens together


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


def times(seeds_B: Tensor, counts_B: Tensor, like_BV: Tensor) -> Tensor:
    """Times for `draw`, exponential at rate 1, [B, V] like `like_BV`: a hash of a row's seed, count and the token.

    So a draw needs no state, and is the same on every device. SplitMix64 (Steele et al. 2014) of seed and count, and
    from its halves and the token two rounds of 32-bit finalisers as C. Wellons searched them (hash-prospector).
    """
    key_B = _splitmix(seeds_B, counts_B)
    high_B1, low_B1 = (key_B >> 32 & _ALL)[:, None], (key_B & _ALL)[:, None]
    x_BV = torch.arange(like_BV.shape[-1], device=like_BV.device)[None] * 0x9E3779B9 + low_B1 & _ALL
    x_BV = _mixed(x_BV, 16, 0x7FEB352D, 15, 0x846CA68B, 16) ^ high_B1
    x_BV = _mixed(x_BV, 16, 0x21F0AAAD, 15, 0x735A2D97, 15)
    return -(((x_BV >> 9).float() + 0.5) * 2**-23).log()


def as_int64(number: int) -> int:
    """The int64 with the same 64 bits, which is how a tensor holds a seed."""
    return (number + 2**63) % 2**64 - 2**63


_ALL = 0xFFFFFFFF


def _mixed(x: Tensor, *steps: int) -> Tensor:
    """Shifts and factors in turn, on 32 bits."""
    for shift, factor in zip(steps[::2], (*steps[1::2], 1), strict=True):
        x = (x ^ (x >> shift)) * factor & _ALL
    return x


def _splitmix(seeds_B: Tensor, counts_B: Tensor) -> Tensor:
    x_B = seeds_B + (counts_B + 1) * as_int64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x_B = (x_B ^ (x_B >> shift & 2 ** (64 - shift) - 1)) * as_int64(factor)  # a shift of int64 fills in the sign
    return x_B

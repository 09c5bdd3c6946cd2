"""Rows of tokens that grow together, one token each at a time."""

# B rows in the batch, T tokens, V vocabulary

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from storylm.generation.cache import SlotCache
from storylm.generation.sampling import Sampling, choose
from storylm.model.transformer import Transformer


class Decoder:
    """Reads all prompts in one pass, then draws and reads one token a row at a time.

    A row is known by its number among the prompts and draws from a generator of its own, made from its own
    seed, so what it tells does not depend on the rows beside it. `vocabulary` is how many token ids there
    are to draw from: a model may have more rows of embeddings, for the sake of a round number.

    >>> decoder = Decoder(model, [[1, 5, 7], [1]], seeds=[0, 1], ...)    # doctest: +SKIP
    >>> decoder.draw()                                                  # doctest: +SKIP
    [(0, 31), (1, 4)]
    >>> decoder.advance([1])    # row 0 is done                         # doctest: +SKIP
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        vocabulary: int,
        max_new_tokens: int,
    ):
        self.model, self.sampling, self.vocabulary = model, sampling, vocabulary
        self.rows = list(range(len(prompts)))
        self._generators = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]
        lengths = [len(prompt) for prompt in prompts]
        self._cache = SlotCache(min(model.config.context, max(lengths) + max_new_tokens))
        self._lengths_B = torch.tensor(lengths, device=model.device)
        padded = [[*prompt, *[0] * (max(lengths) - len(prompt))] for prompt in prompts]
        tokens_BT = torch.tensor(padded, device=model.device)
        positions_BT = torch.arange(max(lengths), device=model.device).expand_as(tokens_BT)
        self._seen_BV = self._seen_in(tokens_BT, positions_BT < self._lengths_B[:, None])
        self._drawn_B = tokens_BT[:, 0]
        self._logits_BV = self._read(tokens_BT, positions_BT, last_B=self._lengths_B - 1)

    @torch.inference_mode()
    def draw(self) -> list[tuple[int, int]]:
        """The next token of each row that goes on: (row, token id)."""
        self._drawn_B = choose(self._logits_BV, self.sampling, self._generators, self._seen_BV)
        return list(zip(self.rows, self._drawn_B.tolist(), strict=True))

    @torch.inference_mode()
    def advance(self, rows: Sequence[int]) -> None:
        """Read what was drawn in these rows, in their order so far; the others are done and forgotten."""
        if len(rows) < len(self.rows):
            self._keep([self.rows.index(row) for row in rows])
        if not self.rows:
            return
        if self._seen_BV is not None:
            self._seen_BV.scatter_(1, self._drawn_B[:, None], True)
        positions_B1 = self._lengths_B[:, None]
        self._logits_BV = self._read(self._drawn_B[:, None], positions_B1, last_B=torch.zeros_like(self._lengths_B))
        self._lengths_B = self._lengths_B + 1

    def _read(self, tokens_BT: Tensor, positions_BT: Tensor, last_B: Tensor) -> Tensor:
        """Scores [B, V] for what comes after the token at index `last_B` of each row."""
        hidden_BTD = self.model.hidden(tokens_BT, positions_BT, cache=self._cache)
        hidden_BD = hidden_BTD[torch.arange(len(last_B), device=last_B.device), last_B]
        return F.linear(hidden_BD, self.model.head_weight[: self.vocabulary])

    def _seen_in(self, tokens_BT: Tensor, real_BT: Tensor) -> Tensor | None:
        if self.sampling.repetition_penalty == 1:
            return None
        counts_BV = torch.zeros(len(tokens_BT), self.vocabulary, dtype=torch.int64, device=tokens_BT.device)
        return counts_BV.scatter_add_(1, tokens_BT, real_BT.long()) > 0

    def _keep(self, indices: list[int]) -> None:
        self.rows = [self.rows[index] for index in indices]
        self._generators = [self._generators[index] for index in indices]
        indices_B = torch.tensor(indices, dtype=torch.long, device=self._lengths_B.device)
        self._cache.keep(indices_B)
        self._lengths_B, self._drawn_B = self._lengths_B[indices_B], self._drawn_B[indices_B]
        self._seen_BV = None if self._seen_BV is None else self._seen_BV[indices_B]

"""How likely a text is, token by token, through what tells stories: the same weights, in the same precision."""

from collections.abc import Iterator, Sequence

import torch

from storylm.generation.draft import Likelihood, likelihoods
from storylm.generation.reading import Reader


@torch.inference_mode()
def score(
    reader: Reader, slot: int, tokens: Sequence[int], vocabulary: int, count: int = 0
) -> Iterator[list[Likelihood]]:
    """How likely each token but the first was after those before it, and the `count` likeliest in its place.

    Piece by piece, so that whoever else needs the reader has it meanwhile, and no more than a piece's scores are ever
    in memory. The `slot` is taken until the last of them; what was in it is gone.
    """
    scored = 1
    for logits_TV in reader.read_all(slot, tokens[:-1]):
        after = tokens[scored : scored + len(logits_TV)]
        yield likelihoods(logits_TV[:, :vocabulary], after, count)
        scored += len(after)

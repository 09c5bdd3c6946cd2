"""A start from what pairs of tokens tell: before the first step the model already predicts as a bigram model does.

While the blocks add nothing (`init_outputs: zero`), the model is its embedding table, the last norm and its head: a
bigram model of low rank. That one is fitted to the counts of all pairs in seconds, which training would take many times
as long for, a batch at a time. What it has learned of tokens, the blocks then build upon.
"""

# V vocabulary, D width

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from storylm.data.shards import TokenSet
from storylm.model.transformer import Transformer

PRIOR = 20.0  # tokens' worth of the unigram distribution, added to what was seen after each token
STEPS, RATE = 30, 0.05
PIECE = 1 << 22  # tokens whose pairs are counted at a time
SIZE = 0.1  # RMS of the embeddings: large enough to be heard beside the blocks, small enough to be moved


@torch.no_grad()
def warm_start(model: Transformer, tokens: TokenSet, seed: int) -> None:
    """Give `model`, freshly initialised on the CPU, the embeddings and the head of a bigram model of `tokens`."""
    assert model.head is not None  # as the settings say
    embeddings_VD, head_VD = fit_bigrams(count_pairs(tokens, model.config.vocab_size), model.config.width, seed)
    model.embedding.weight.copy_(SIZE * embeddings_VD)
    model.head.weight.copy_(head_VD)


def count_pairs(tokens: TokenSet, vocab_size: int) -> Tensor:
    """How often each token follows each other one, [V, V]: the first index is that of the one before."""
    pairs = np.zeros(vocab_size * vocab_size, np.float32)
    for start in range(0, tokens.tokens, PIECE):  # a ring: after the last token comes the first
        ids = tokens.window(start, min(PIECE, tokens.tokens - start) + 1).astype(np.int64)
        found, counts = np.unique(ids[:-1] * vocab_size + ids[1:], return_counts=True)
        pairs[found] += counts
    return torch.from_numpy(pairs).view(vocab_size, vocab_size)


def fit_bigrams(pairs_VV: Tensor, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Embeddings [V, D], each of RMS 1, and a head [V, D] whose products with them predict the next token.

    The start is a singular value decomposition of how much likelier a token is after another one than anywhere
    (as in word vectors of pointwise mutual information, Levy and Goldberg 2014); one feature is left for how likely it
    is anywhere. Some steps of Adam on the cross-entropy of all pairs at once do the rest.
    """
    before_V1 = pairs_VV.sum(1, keepdim=True)
    anywhere_V = pairs_VV.sum(0) + 0.5
    anywhere_V /= anywhere_V.sum()
    after_VV = (pairs_VV + PRIOR * anywhere_V) / (before_V1 + PRIOR)
    gain_VV = torch.log(after_VV / anywhere_V) * torch.sqrt(before_V1 / (before_V1 + 50))  # rare ones tell little
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, values, right = torch.svd_lowrank(gain_VV, q=width - 1, niter=1)
    left, right = left * values.sqrt(), right * values.sqrt()
    constant = 4 * left.square().mean().sqrt()
    embeddings_VD = torch.cat([left, constant.expand(len(left), 1)], 1)
    head_VD = torch.cat([right, anywhere_V.log()[:, None] / constant], 1)
    size = embeddings_VD.square().mean(1).sqrt().median()
    embeddings_VD, head_VD = (embeddings_VD / size).requires_grad_(), (head_VD * size).requires_grad_()
    optimizer = torch.optim.Adam([embeddings_VD, head_VD], betas=(0.9, 0.95), fused=True)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        _descend(embeddings_VD, head_VD, pairs_VV)
        optimizer.step()
    return F.rms_norm(embeddings_VD.detach(), (width,)), head_VD.detach()


def _descend(embeddings_VD: Tensor, head_VD: Tensor, pairs_VV: Tensor) -> None:
    """Set the gradients of the mean cross-entropy over all pairs; the products in bf16, as in training."""
    with torch.enable_grad():
        normed_VD = F.rms_norm(embeddings_VD, embeddings_VD.shape[1:])
    features_VD, weights_VD = normed_VD.detach().bfloat16(), head_VD.detach().bfloat16()
    errors_VV = torch.softmax((features_VD @ weights_VD.T).float(), 1)
    errors_VV.mul_(pairs_VV.sum(1, keepdim=True)).sub_(pairs_VV).div_(pairs_VV.sum())
    errors_VV = errors_VV.bfloat16()
    (embeddings_VD.grad,) = torch.autograd.grad(normed_VD, embeddings_VD, (errors_VV @ weights_VD).float())
    head_VD.grad = (errors_VV.T @ features_VD).float()

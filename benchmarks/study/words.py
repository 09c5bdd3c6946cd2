"""The loss by kind of word: what grammar decides, and what only the story so far can tell.

A *repeated name* is a capitalised word in the middle of a sentence that stood so in the same story before: whoever
keeps the story's people apart knows it. *Function words* (the, to, was, ...) are what grammar asks for. A word's loss
is that of its tokens, the space before it included.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from storylm.evaluation.windows import batches, padded, windows
from storylm.model.loss import token_nats
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

_FUNCTION_WORDS = """
    a all am an and are as at be been but by can could did do for from had has have he her hers him his i if in into
    is it its may me my no not of off on or our out she so some than that the their them then there they this to too
    up us was we were what when where which who will with would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_IN_SENTENCE = re.compile(r"[a-z,] $")  # what stands before a word that begins no sentence
KINDS = ("repeated names", "function words", "other words")


def kinds(story: str) -> Iterator[tuple[int, int, str]]:
    """Where each word begins, with the space before it, and ends (exclusive), and its kind, one of `KINDS`.

    >>> [(story[a:b], kind) for story in ["so Tim ran to Tim."] for a, b, kind in kinds(story)][1::3]
    [(' Tim', 'other words'), (' Tim', 'repeated names')]
    """
    seen: set[str] = set()
    for match in _WORD.finditer(story):
        word, start = match[0], match.start()
        name = word[0].isupper() and word != "I" and "'" not in word and bool(_IN_SENTENCE.search(story[:start][-2:]))
        kind = "other words"
        if name and word in seen:
            kind = "repeated names"
        elif word.lower() in FUNCTION_WORDS:
            kind = "function words"
        if name:
            seen.add(word)
        first = start - (story[start - 1 : start] == " ")
        yield first, match.end(), kind


@torch.inference_mode()
def nats_by_kind(model: Transformer, tokenizer: Tokenizer, stories: Iterable[str]) -> dict[str, dict[str, float]]:
    """Words and nats per word of each kind, in stories of ASCII letters, as far as they fit the model's context."""
    context, (start, end) = model.config.context, (tokenizer.start_id, tokenizer.end_id)
    texts = [story for story in stories if story.isascii()]
    rows = [row for ids in tokenizer.encode_batch(texts) for row in windows(ids, start, end, context, None)]
    sizes = np.array([len(tokenizer.decode([id])) for id in range(tokenizer.vocab_size)])
    words, nats = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
    for batch in batches(rows, 16 * context):
        tokens_BT, targets_BT = padded(batch, model.device)
        nats_BT = token_nats(model.hidden(tokens_BT), model.head_weight, targets_BT).double().numpy()
        for row, nats_T in zip(batch, nats_BT, strict=True):
            ids = row.targets[row.targets != end]
            ends = np.cumsum(sizes[ids])  # the byte after each token
            until = np.concatenate([[0.0], np.cumsum(nats_T[: len(ids)])])
            for first, last, kind in kinds(tokenizer.decode(ids)):
                begin, stop = np.searchsorted(ends, [first, last - 1], "right")
                words[kind] += 1
                nats[kind] += float(until[min(stop + 1, len(ids))] - until[begin])
    return {kind: {"words": words[kind], "nats": round(nats[kind] / max(1, words[kind]), 4)} for kind in KINDS}

"""What told stories are held against: the true endings of their beginnings, no longer than a told one could be.

A model tells so many tokens and no more. True endings that went on would be better at ending and worse at repeating
themselves for no other reason, so they stop there too.
"""

from collections.abc import Iterable, Sequence

from storylm.evaluation.corpus import Corpus
from storylm.evaluation.telling import part
from storylm.evaluation.text.judge import Real
from storylm.evaluation.text.metric import Told
from storylm.generation.telling import read_prompt
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer


def true_endings(corpus: Corpus, told: Sequence[Told]) -> Real | None:
    """The true ending of each told story, found by its beginning, and as many further stories.

    None if one begins as no story of the corpus does, parted as `telling.part` does.
    """
    wanted = {story.beginning for story in told}
    size = min(map(len, wanted))
    heads = {beginning[:size] for beginning in wanted}  # so that few stories need be parted
    found: dict[str, Told] = {}
    others: list[Told] = []
    for story in corpus:
        if len(others) < len(told) or story[:size] in heads:
            pieces = part(story)
            if pieces is not None and pieces.beginning in wanted:
                found.setdefault(pieces.beginning, pieces)
            elif pieces is not None and len(others) < len(told):
                others.append(pieces)
        if len(found) == len(wanted) and len(others) == len(told):
            break
    return Real([found[story.beginning] for story in told], others) if len(found) == len(wanted) else None


def as_told(model: Transformer, tokenizer: Tokenizer, real: Real, max_new_tokens: int) -> Real:
    """Real stories as far as the model could tell them from their beginnings."""
    room = model.config.context + 1  # the last token need not be read

    def limit(story: Told) -> int:
        return min(max_new_tokens, room - len(read_prompt(model, tokenizer, story.beginning, max_new_tokens, "left")))

    return Real(*([_within(limit(story), story, tokenizer) for story in some] for some in (real.endings, real.others)))


def as_long(told: Iterable[Told], tokenizer: Tokenizer, real: Real) -> Real:
    """Real stories no longer than the told ones that were cut; as they are where none is known to be."""
    lengths = [len(tokenizer.encode(story.told)) for story in told if story.cut]
    if not lengths:
        return real
    return Real(*([_within(max(lengths), story, tokenizer) for story in some] for some in (real.endings, real.others)))


def _within(limit: int, story: Told, tokenizer: Tokenizer) -> Told:
    """The first `limit` tokens of what was told. One of them would end the story, so of just as many the end is cut."""
    spans_N2 = tokenizer.spans([story.told])[0]
    if len(spans_N2) < limit:
        return Told(story.beginning, story.told, False)
    return Told(story.beginning, story.told[: int(spans_N2[limit - 1, 1])], True)

"""What judging will take, before it starts: tokens, minutes and money, roughly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from storylm.evaluation.judge import rubric
from storylm.evaluation.text.metric import Told

BYTES_PER_TOKEN = 4  # of English, about, whatever the judge's tokenizer
ANSWER_TOKENS = 40  # the object that the rubric shows has 35
MESSAGE_TOKENS = 4  # around each message


@dataclass(frozen=True)
class Cost:
    """An estimate for so many requests, none of them asked twice."""

    requests: int
    tokens_in: int
    tokens_out: int

    def money(self, price_in: float | None, price_out: float | None) -> float | None:
        """In the unit of the prices, which are for a million tokens; None where one is not known.

        >>> Cost(10, 2_000_000, 500_000).money(0.5, 4)
        3.0
        """
        if price_in is None or price_out is None:
            return None
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6

    def thinking(self, max_tokens: int) -> "Cost":
        """The same, if each answer is as long as it may be: that of a judge that thinks nearly is."""
        return replace(self, tokens_out=self.requests * max_tokens)


def estimate(stories: Sequence[Told]) -> Cost:
    """The cost of asking about each of the stories once."""
    sizes = [sum(len(part["content"].encode()) for part in rubric.messages(story)) for story in stories]
    read = sum(-(-size // BYTES_PER_TOKEN) + 2 * MESSAGE_TOKENS for size in sizes)
    return Cost(len(stories), read, ANSWER_TOKENS * len(stories))


def longest(beginnings: Sequence[str], max_new_tokens: int) -> list[Told]:
    """Stories that are as long as any that a model will tell from the beginnings, to estimate what they will cost."""
    return [Told(beginning, " " * (BYTES_PER_TOKEN * max_new_tokens)) for beginning in beginnings]

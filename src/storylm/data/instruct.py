"""Stories to order, as TinyStories-Instruct has them (Eldan and Li 2023): what a story should have, and then the story.

    Features: Dialogue, BadEnding
    Words: quit, oak, gloomy
    Summary: Two friends climb a tree and one of them is afraid.
    Random sentence: The bark was cold.
    Story:

    Sara and Ben ...

The data set has the lines in any order; here they have this one, in training and in telling, and each only where there
is something to say. Order and story are cut into tokens by themselves, so that what a model is given when it tells is,
token by token, what stood before the stories that it learned from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEATURES = ("Dialogue", "MoralValue", "Twist", "BadEnding", "Conflict", "Foreshadowing")


@dataclass(frozen=True)
class Order:
    """What a story should have.

    >>> Order(("quit", "oak"), sentence="The bark was cold.").prompt
    'Words: quit, oak\\nRandom sentence: The bark was cold.\\nStory: \\n\\n'
    """

    words: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sentence: str | None = None
    summary: str | None = None

    @property
    def prompt(self) -> str:
        """As it stands before the story."""
        lines = {
            "Features": ", ".join(self.features),
            "Words": ", ".join(self.words),
            "Summary": self.summary,
            "Random sentence": self.sentence,
        }
        return "".join(f"{name}: {text}\n" for name, text in lines.items() if text) + "Story: \n\n"


class Ordered(str):
    """A story with the text of its order: to whoever asks for no order, a story like any other."""

    __slots__ = ("order",)

    def __new__(cls, story: str, order: str) -> "Ordered":
        ordered = super().__new__(cls, story)
        ordered.order = order
        return ordered


def order_of(story: str) -> str:
    """What stands before the story; nothing before a plain one.

    >>> order_of(Ordered("Once.", "Story: \\n\\n")), order_of("Once.")
    ('Story: \\n\\n', '')
    """
    return story.order if isinstance(story, Ordered) else ""


def order_in(fields: Mapping[str, Any], repair: Callable[[str], str] = str) -> Order:
    """The order among the fields of a record: those of TinyStories-Instruct's text, or of TinyStories_all_data's JSON.

    `repair` is applied to every text first. Each becomes one line, whatever lines it had.

    >>> order_in({"words": "quit, oak", "random sentence": "The bark\\nwas cold."})
    Order(words=('quit', 'oak'), features=(), sentence='The bark was cold.', summary=None)
    >>> order_in({"instruction": {"words": ["sun"], "features": ["Twist"]}, "summary": "It is hot."})
    Order(words=('sun',), features=('Twist',), sentence=None, summary='It is hot.')
    """
    inner = fields.get("instruction")
    known = {**fields, **inner} if isinstance(inner, Mapping) else fields

    def line(value: Any) -> str | None:
        return " ".join(repair(value).split()) or None if isinstance(value, str) else None

    def several(value: Any) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else ()
        return tuple(text for part in parts if (text := line(part)))

    return Order(
        several(known.get("words")),
        several(known.get("features")),
        line(known.get("random sentence")),
        line(known.get("summary")),
    )

"""What stands before a corpus's stories, as `data.format` says: nothing, the orders they came with, or derived ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from storylm.config.schema import CleaningConfig
from storylm.data.cleaning import remove_control, repair_mojibake
from storylm.data.derive import derived
from storylm.data.instruct import Order, Ordered, order_in

Fields = Mapping[str, Any]
FORMATS: dict[str, Callable[[str, Fields, int, Callable[[str], str]], Order | None]] = {
    "stories": lambda story, fields, seed, repair: None,
    "instruct": lambda story, fields, seed, repair: order_in(fields, repair),
    "derived": lambda story, fields, seed, repair: derived(story, seed),
}


@dataclass(frozen=True)
class Orders:
    """Where orders come from: a key of `FORMATS`, and the seed of those that are derived."""

    format: str = "stories"
    seed: int = 0

    @property
    def name(self) -> str | None:
        """For manifests and messages; None where there are no orders."""
        return {"stories": None, "derived": f"derived, seed {self.seed}"}.get(self.format, self.format)

    def before(self, story: str, fields: Fields, cleaning: CleaningConfig) -> str:
        """The story, with its order where it has one.

        >>> Orders("instruct").before("Once.", {"words": "sun"}, CleaningConfig()).order
        'Words: sun\\nStory: \\n\\n'
        """

        def repair(text: str) -> str:
            return remove_control(repair_mojibake(text) if cleaning.mojibake else text)

        order = FORMATS[self.format](story, fields, self.seed, repair)
        return story if order is None else Ordered(story, order.prompt)


PLAIN = Orders()

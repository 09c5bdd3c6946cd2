"""`Plan`: everything that decides what preparing gives, and a key that is the same exactly where that is."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from storylm.config.schema import CleaningConfig
from storylm.data.orders import PLAIN, Orders
from storylm.data.sources import Part, Source, open_source
from storylm.text.tokenizer import Tokenizer

FORMAT = 2  # raise it when cleaning, choosing or encoding come to give something else
OWN = "bpe"  # the tokenizer that is trained on the corpus


@dataclass(frozen=True)
class Plan:
    """What to prepare, of what, and how. `tokenizer` None: train one of `vocab_size`."""

    source: Source
    validation: Source | None
    validation_split: str | None
    """The split of `validation` to use, or of `source`; None: hold out `validation_share` of train."""
    validation_share: float
    tokenizer: Tokenizer | None
    vocab_size: int
    cleaning: CleaningConfig
    max_stories: int | None
    orders: Orders = PLAIN

    @classmethod
    def of(
        cls,
        source: str | Source,
        tokenizer: str | Tokenizer,
        cleaning: CleaningConfig,
        validation: str | Source | None,
        validation_share: float,
        vocab_size: int,
        max_stories: int | None,
        orders: Orders = PLAIN,
    ) -> "Plan":
        """Open the sources and the tokenizer. Raises what `open_source` and `Tokenizer.load` raise."""
        source = open_source(source) if isinstance(source, str) else source
        source.parts("train")  # it must have that split
        validation = open_source(validation) if isinstance(validation, str) else validation
        if validation is not None:
            split = next(name for name in ("validation", "test", "train") if name in validation.splits)
        else:
            split = "validation" if "validation" in source.splits else None
        if isinstance(tokenizer, str):
            tokenizer = None if tokenizer == OWN else Tokenizer.load(tokenizer)  # pyright: ignore
        return cls(source, validation, split, validation_share, tokenizer, vocab_size, cleaning, max_stories, orders)  # pyright: ignore

    @property
    def held_out(self) -> float | None:
        """The share of train that becomes validation; None where validation has stories of its own."""
        return self.validation_share if self.validation_split is None else None

    def parts(self) -> list[tuple[str, Part]]:
        """Every part with its split, validation's first."""
        parts: list[tuple[str, Part]] = []
        if self.validation_split is not None:
            parts += [("validation", part) for part in (self.validation or self.source).parts(self.validation_split)]
        return parts + [("train", part) for part in self.source.parts("train")]

    @cached_property
    def key(self) -> str:
        """Hex; another one whenever the stories, the settings or the format are others."""
        content = {**self.settings(), "format": FORMAT, "parts": [[split, part.key] for split, part in self.parts()]}
        content["tokenizer"] = self.tokenizer.fingerprint if self.tokenizer else OWN
        del content["source"], content["validation"]  # names: what they stand for is in the parts
        if self.orders == PLAIN:  # so that what was prepared before there were orders is found again
            del content["orders"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def settings(self) -> dict[str, Any]:
        """What was asked for, for the manifest and for messages."""
        return {
            "source": self.source.name,
            "validation": self.validation.name if self.validation else None,
            "validation_share": self.held_out,
            "tokenizer": self.tokenizer.name if self.tokenizer else OWN,
            "vocab_size": None if self.tokenizer else self.vocab_size,
            "max_stories": self.max_stories,
            "cleaning": self.cleaning.model_dump(mode="json"),
            "orders": self.orders.name,
        }

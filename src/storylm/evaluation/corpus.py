"""The stories of one split of a source as they are, for judging: nothing cleaned, what cannot be read counted."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from storylm.config.errors import DataError, UsageError
from storylm.config.files import expanded
from storylm.data.instruct import Ordered
from storylm.data.prepared import MANIFEST, ORDER, VALIDATION_TEXT
from storylm.data.records import Record
from storylm.data.sources import Source, open_source


class Corpus:
    """Stories to judge by; each pass over them reads them anew, in bounded memory.

    `spec` is a source (see `data.sources`) or a prepared folder, of which it is the validation stories. `split`
    is one of the source's, or "all"; None is validation where there is one, else all there is. The first
    `max_stories` readable ones count.

    >>> stories = Corpus("grammar?validation=3")
    >>> stories.split, len(list(stories))
    ('validation', 3)

    Raises:
        DataError: no such source or split.
        UsageError: `max_stories` is not 1 or more.
    """

    def __init__(self, spec: str, split: str | None = None, max_stories: int | None = None):
        if max_stories is not None and max_stories < 1:
            raise UsageError(f"max_stories={max_stories} is not allowed: it is 1 or more")
        self._prepared = _is_prepared(spec)
        self._source, held = _open(spec)
        self.name, self.max_stories = spec, max_stories
        self.split = split or ("validation" if "validation" in held else "all")
        if self.split != "all" and self.split not in held:
            raise DataError(f"{spec} has no {self.split} split, only {' and '.join(held)}: leave out --split for all")
        self._splits = held if self.split == "all" else {self.split: held[self.split]}
        self.counted: Counter[str] = Counter()
        """How many stories of each split there were in the latest pass."""
        self.unreadable: Counter[str] = Counter()
        """What could not be read in the latest pass, by reason."""
        self.repaired: Counter[str] = Counter()
        """What could be read after a repair, by reason."""

    def __iter__(self) -> Iterator[str]:
        self.counted, self.unreadable, self.repaired = Counter(), Counter(), Counter()
        return islice(self._readable(), self.max_stories)

    def _readable(self) -> Iterator[str]:
        for name, split in self._splits.items():
            for record in self._source.stories(split):
                problem = record.problem or ""
                if record.text is None:
                    self.unreadable[problem] += 1
                elif not record.text:
                    self.unreadable["empty story"] += 1
                elif _has_surrogates(record.text):
                    self.unreadable["lone surrogates"] += 1  # no UTF-8, so no bytes to speak of
                else:
                    if problem:
                        self.repaired[problem] += 1
                    self.counted[name] += 1
                    yield Ordered(record.text, record.fields[ORDER]) if self._orders(record) else record.text

    def _orders(self, record: Record) -> bool:
        """Only what storylm prepared says there is the text of an order, in a form that a model has learned from."""
        return self._prepared and ORDER in record.fields


def _open(spec: str) -> tuple[Source, dict[str, str]]:
    """The source, and its splits by the names they go by here."""
    if _is_prepared(spec):
        return open_source(str(expanded(spec) / VALIDATION_TEXT)), {"validation": "train"}  # one file alone is `train`
    source = open_source(spec)
    return source, {split: split for split in source.splits}


def _is_prepared(spec: str) -> bool:
    return all((expanded(spec) / name).is_file() for name in (MANIFEST, VALIDATION_TEXT))


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False

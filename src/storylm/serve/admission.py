"""How much work may be on its way at once: requests for it, and bytes of their bodies."""

from collections import Counter

from storylm.serve.batcher import Batcher
from storylm.serve.settings import ServeSettings

STORIES, ATTENTION = "/v1/completions", "/v1/attention"


class Admission:
    """Says who may come in before anything of theirs is read: a body costs memory, and to cut it into tokens, time.

    A request holds its place to the end of its answer. Each is one story or more, so that as many may be on their way
    as stories; how many stories it wants is known, and counted by the batcher, once it is read.
    """

    def __init__(self, batcher: Batcher, settings: ServeSettings):
        self._batcher, self._limits = batcher, {STORIES: batcher.limit, ATTENTION: settings.looks}
        self._largest, self._room = settings.body_bytes, settings.bodies_bytes
        self._requests: Counter[str] = Counter()

    def enter(self, path: str, size: int | None) -> "Place | None":
        """A place for a request whose body has so many bytes (None: it does not say); None where there is none."""
        if path not in self._limits:
            return Place(self, path, 0)
        size = self._largest if size is None else size
        busy = path == STORIES and self._batcher.jobs >= self._batcher.limit
        if busy or size > self._room or self._requests[path] >= self._limits[path]:
            return None
        self._room -= size
        self._requests[path] += 1
        return Place(self, path, size)

    def leave(self, path: str, size: int) -> None:
        """A request is over."""
        if path in self._limits:
            self._room += size
            self._requests[path] -= 1


class Place:
    """A request's; left at the end of a `with`."""

    def __init__(self, admission: Admission, path: str, size: int):
        self._leave = lambda: admission.leave(path, size)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._leave()

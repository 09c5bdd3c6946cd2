"""From tokens to text while a story is being told: whole characters only, up to a stop string."""

from collections.abc import Sequence
from typing import Protocol


class Decodes(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, ids: Sequence[int]) -> str: ...


class TextStream:
    """Turns the tokens that follow a prompt into pieces of text.

    One character may take a few tokens, so text is held back while it ends in an incomplete one; and a
    tokenizer may drop the space before the first word it is given, so a token is always decoded together
    with those before it. Text is also held back while it may be the beginning of a `stop` string, which
    ends the story and does not belong to it.

    >>> stream = TextStream(tokenizer, prompt_ids, stop=["The end"])          # doctest: +SKIP
    >>> "".join(stream.add(token) for token in tokens) + stream.finish()      # doctest: +SKIP
    """

    def __init__(self, tokenizer: Decodes, prompt_ids: Sequence[int], stop: Sequence[str] = ()):
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._ids = list(prompt_ids[-_CONTEXT:])
        self._context, self._read = 0, len(self._ids)  # text of ids[:read] is out; decode from `context` on
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is certain with this token; "" while there is none."""
        if self.stopped:
            return ""
        self._ids.append(token)
        text = self._new_text()
        if not text or text.endswith(_INCOMPLETE):
            return self._settled(text) if len(self._ids) - self._read > _HELD else ""
        self._context, self._read = self._read, len(self._ids)
        return self._until_stop(text)

    def finish(self) -> str:
        """What was held back and is now certain, the story having come to its end."""
        if self.stopped:
            return ""
        text = self._until_stop(self._new_text())
        return text if self.stopped else text + self._held

    def _new_text(self) -> str:
        return self._decode(len(self._ids))[len(self._decode(self._read)) :]

    def _settled(self, text: str) -> str:
        """What of it no further token can change: only its last character may be a part of another.

        Bytes that never become a character would else be held, and decoded again with each token, to the story's end.
        So would tokens that say nothing at all.
        """
        if not text:
            del self._ids[self._read : -1]
            return ""
        before = len(self._decode(self._read))
        for end in range(len(self._ids) - 1, len(self._ids) - _LONGEST - 1, -1):
            certain = self._decode(end)[before:]
            if len(certain) < len(text) and text.startswith(certain):
                self._context, self._read = self._read, end
                return self._until_stop(certain)
        return ""

    def _decode(self, end: int) -> str:
        return self._tokenizer.decode(self._ids[self._context : end])

    def _until_stop(self, text: str) -> str:
        text = self._held + text
        found = [text.find(stop) for stop in self._stop if stop in text]
        if found:
            self.stopped = True
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


_INCOMPLETE = "\ufffd"  # what decoders put for bytes that are not, or not yet, a character
_LONGEST = 4  # bytes of a character, and so tokens
_HELD = 8  # tokens: more of them are no character
_CONTEXT = 8  # tokens of the prompt that the first new one is decoded with


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with, short of all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)

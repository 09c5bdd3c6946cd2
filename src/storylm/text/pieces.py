"""What tokens stand for one by one: bytes, a name, and characters of a text, of which one may take several tokens."""

import codecs
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from storylm.text.bytelevel import ALPHABET
from storylm.text.sentencepiece import SPACE

if TYPE_CHECKING:
    from storylm.text.tokenizer import Tokenizer

Span = tuple[int, int]
_BYTE = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's name of a byte that no character's token stands for
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")  # no third byte makes it a character, but Python's decoder waits for one
_BYTES = {character: byte for byte, character in enumerate(ALPHABET)}


class Pieces:
    """The tokens of a tokenizer one by one.

    >>> pieces = Pieces(Tokenizer.load("bytes"))
    >>> pieces.name(97), pieces.name(226), pieces.name(256), pieces.bytes(226)
    ('a', 'bytes:\\\\xe2', '<|endoftext|>', b'\\xe2')
    """

    def __init__(self, tokenizer: "Tokenizer"):
        self.tokenizer = tokenizer
        self.bytes = lru_cache(maxsize=65_536)(self._bytes)
        self.name = lru_cache(maxsize=65_536)(self._name)

    @cached_property
    def _decoders(self) -> set[str]:
        decoder = self.tokenizer.to_json()["decoder"] or {}
        return {step["type"] for step in decoder.get("decoders", [decoder]) if step}

    def is_byte(self, id: int) -> bool:
        """Whether it is a byte that is written so, as SentencePiece does where no other token fits."""
        return "ByteFallback" in self._decoders and _BYTE.fullmatch(self.tokenizer.piece(id)) is not None

    def _bytes(self, id: int) -> bytes:
        """What a token adds to the UTF-8 of a text it stands within; nothing, of a special one."""
        piece = self.tokenizer.piece(id)
        if id in self.tokenizer.special_ids:
            return b""
        if "ByteLevel" in self._decoders and all(character in _BYTES for character in piece):
            return bytes(_BYTES[character] for character in piece)
        if self.is_byte(id):
            return bytes.fromhex(piece[3:5])
        return self.tokenizer.token_text(id).encode()

    def _name(self, id: int) -> str:
        r"""The text of a token; where that is none of its own, "bytes:\xe2\x80", as OpenAI's API has it.

        No two tokens have one name: a part of a character, and a byte that is written like a character with a token,
        are told by their bytes, a special token by its name in the vocabulary.
        """
        if id in self.tokenizer.special_ids:
            return self.tokenizer.piece(id)
        content = self.bytes(id)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return _escaped(content)
        return _escaped(content) if self.is_byte(id) and self.tokenizer.has_piece(text.replace(" ", SPACE)) else text


def _escaped(content: bytes) -> str:
    return "bytes:" + "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in content)


class Spans:
    """Which characters each token of a text stands for, while the text grows: from and to, in code points.

    A character of several tokens is in the span of each; special tokens have empty ones. The text is that of
    `Tokenizer.decode`, U+FFFD for what is no character included. Takes as long as there are bytes.

    >>> spans = Spans(Pieces(Tokenizer.load("bytes")))
    >>> [spans.add(byte) for byte in "né".encode()], spans.length
    ([(0, 1), (1, 2), (1, 2)], 2)
    """

    def __init__(self, pieces: Pieces):
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._whole = 0  # characters that are complete
        self._begun = False
        self._run, self._run_begins = b"", 0  # the bytes that `Pieces.is_byte` holds for without a break, so far

    @property
    def length(self) -> int:
        """The characters of the text so far."""
        if _is_broken(self._run):
            return self._run_begins + len(self._run)
        return max(0, self._whole + bool(self._partial()))

    def add(self, token: int) -> Span:
        """The characters that the next token stands for."""
        content = self._pieces.bytes(token)
        if not content:
            return self.length, self.length
        if not self._begun:  # some drop the space of a first word
            self._whole = len(self._pieces.tokenizer.decode([token])) - len(content.decode(errors="replace"))
            self._begun = True
        self._follow_run(token, content)
        first = self._feed(content[:1])
        last = self._feed(content[1:]) if len(content) > 1 else first
        return max(0, first), max(0, last + 1)

    def _feed(self, content: bytes) -> int:
        """The number of the character that the last of these bytes belongs to."""
        self._whole += len(self._decoder.decode(content))
        if _SURROGATE.fullmatch(self._partial()):
            self._whole += len(self._decoder.decode(b"", final=True))
        return self._whole - (not self._partial())

    def _partial(self) -> bytes:
        return self._decoder.getstate()[0]

    def _follow_run(self, token: int, content: bytes) -> None:
        """Where bytes fall back, a run of them that is no UTF-8 decodes to one U+FFFD for each."""
        if self._pieces.is_byte(token):
            self._run_begins = self._run_begins if self._run else max(0, self._whole)
            self._run += content
        elif self._run:
            if _is_broken(self._run):
                self._whole = self.length
                self._decoder.reset()
            self._run = b""


def _is_broken(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False

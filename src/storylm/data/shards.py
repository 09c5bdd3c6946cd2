"""Token files: a header that says what they hold, the tokens of whole stories end to end, and where each story starts.

    bytes 0 .. 1023         b"STORYTOK", then the header as JSON, filled up with spaces
    tokens                  `tokens` little-endian integers of 16 or 32 bits, then zeros to a multiple of 8 bytes
    offsets                 `stories` + 1 little-endian integers of 64 bits: story i is tokens[offsets[i]:offsets[i+1]]
    begins                  `stories` more, where an order stands before each story (format 2): what is told of story i
                            is tokens[begins[i]:offsets[i+1]]

A file is written whole or not at all, and mapped into memory when read: opening one costs nothing, however large.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np

from storylm.config.errors import DataError
from storylm.config.files import atomic_file

MAGIC = b"STORYTOK"
PLAIN, ORDERED = 1, 2
"""Formats: stories, and stories with orders, which a storylm that knows no orders refuses."""
HEADER_BYTES = 1024
SUFFIX = ".tokens"


@dataclass(frozen=True, slots=True)
class Header:
    """What a shard holds. `tokenizer` is the fingerprint of the tokenizer that made it."""

    version: int
    dtype: str
    tokens: int
    stories: int
    vocab_size: int
    start_id: int
    end_id: int
    tokenizer: str

    @property
    def token_bytes(self) -> int:
        """Of the tokens with what fills them up."""
        return -(-self.tokens * np.dtype(self.dtype).itemsize // 8) * 8

    @property
    def has_orders(self) -> bool:
        return self.version == ORDERED

    @property
    def file_bytes(self) -> int:
        return HEADER_BYTES + self.token_bytes + 8 * (self.stories + 1 + self.stories * self.has_orders)


def token_dtype(vocab_size: int) -> str:
    """The narrowest type that holds every id of the vocabulary.

    >>> token_dtype(50_257), token_dtype(65_536), token_dtype(65_537)
    ('uint16', 'uint16', 'uint32')
    """
    return "uint16" if vocab_size <= 2**16 else "uint32"


def write_shard(
    path: Path,
    stories: Iterable[Sequence[int] | np.ndarray],
    *,
    vocab_size: int,
    start_id: int,
    end_id: int,
    tokenizer: str = "",
    told_from: Sequence[int] | None = None,
) -> Header:
    """Write stories (each its ids, special tokens included) to `path`, whole or not at all.

    `told_from`: how many ids of each story are its order; None: there are no orders. Holds no more than one story and
    16 bytes for each in memory.
    """
    dtype = token_dtype(vocab_size)
    offsets = [0]
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        file.write(bytes(HEADER_BYTES))
        for story in stories:
            ids = np.asarray(story)
            assert ids.size, "a story without tokens"
            assert 0 <= ids.min() <= ids.max() < vocab_size, "ids outside the vocabulary"
            file.write(ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
            offsets.append(offsets[-1] + len(ids))
        version = PLAIN if told_from is None else ORDERED
        header = Header(version, dtype, offsets[-1], len(offsets) - 1, vocab_size, start_id, end_id, tokenizer)
        file.write(bytes(HEADER_BYTES + header.token_bytes - file.tell()))
        file.write(np.array(offsets, "<u8").tobytes())
        if told_from is not None:
            begins = np.add(offsets[:-1], told_from)
            assert ((begins >= offsets[:-1]) & (begins < offsets[1:])).all(), "an order without a story"
            file.write(begins.astype("<u8").tobytes())
        file.seek(0)
        file.write((MAGIC + json.dumps(asdict(header)).encode()).ljust(HEADER_BYTES))
    return header


class Shard:
    """A token file, mapped into memory.

    `tokens` are its ids (uint16 or uint32), `offsets` where each story starts, and at last where the last one ends;
    `begins` is where each is told from, after its order; without orders, where it starts.

    Raises:
        DataError: the file is missing, cut, or no shard.
    """

    def __init__(self, path: Path):
        self.path = path
        self.header = _read_header(path)
        content = np.memmap(path, np.uint8, "r").view(np.ndarray)  # plain arrays are sliced faster than memmaps
        after_tokens = HEADER_BYTES + self.header.token_bytes
        tokens = content[HEADER_BYTES:after_tokens].view(np.dtype(self.header.dtype).newbyteorder("<"))
        self.tokens: np.ndarray = tokens[: self.header.tokens]
        numbers = content[after_tokens:].view("<u8")
        self.offsets: np.ndarray = numbers[: self.header.stories + 1]
        self.begins: np.ndarray = numbers[self.header.stories + 1 :] if self.header.has_orders else self.offsets[:-1]
        ends = self.offsets[[0, -1]].tolist()
        if ends != [0, self.header.tokens] or (self.offsets[1:] <= self.offsets[:-1]).any():
            raise DataError(f"{path} is damaged: its stories do not add up to its tokens; {_AGAIN}")
        if (self.begins < self.offsets[:-1]).any() or (self.begins >= self.offsets[1:]).any():
            raise DataError(f"{path} is damaged: a story begins outside of itself; {_AGAIN}")

    def __len__(self) -> int:
        return self.header.stories

    def __getitem__(self, story: int) -> np.ndarray:
        return self.tokens[int(self.offsets[story]) : int(self.offsets[story + 1])]


_AGAIN = "delete it and prepare the stories again"


def _read_header(path: Path) -> Header:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not raw.startswith(MAGIC):
        raise DataError(f"{path} is no token file: it does not begin with {MAGIC.decode()}")
    try:
        fields = json.loads(raw[len(MAGIC) :])
        version = fields["version"]
        header = Header(**fields) if version in (PLAIN, ORDERED) else None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is damaged: its header cannot be read; {_AGAIN}") from error
    if header is None:
        raise DataError(
            f"{path} is of format {version}, this storylm reads {PLAIN} and {ORDERED}: prepare the stories again"
        )
    if header.dtype not in ("uint16", "uint32") or min(header.tokens, header.stories) < 1:
        raise DataError(f"{path} is damaged: its header cannot be right; {_AGAIN}")
    if size != header.file_bytes:
        raise DataError(f"{path} is damaged: it has {size:,} bytes and should have {header.file_bytes:,}; {_AGAIN}")
    return header


class TokenSet:
    """Shards as one ring of tokens: story after story, and after the last the first again.

    >>> TokenSet([Shard(path)]).window(0, 3)                                    # doctest: +SKIP
    array([ 7,  8,  0])
    """

    def __init__(self, shards: Sequence[Shard]):
        self.shards = tuple(shards)
        kinds = {(shard.header.tokenizer, shard.header.start_id, shard.header.end_id) for shard in shards}
        if len(kinds) > 1:
            raise DataError(f"{shards[0].path.parent} mixes tokens of several tokenizers: prepare the stories again")
        _, self.start_id, self.end_id = kinds.pop() if kinds else ("", 0, 0)
        with_orders = {shard.header.has_orders for shard in shards}
        if len(with_orders) > 1:
            raise DataError(f"{shards[0].path.parent} mixes stories with and without orders: prepare the stories again")
        self.has_orders = True in with_orders
        self._starts = [0, *accumulate(shard.header.tokens for shard in shards)]
        self.tokens: int = self._starts[-1]
        self.stories: int = sum(len(shard) for shard in shards)

    @cached_property
    def story_starts(self) -> np.ndarray:
        """Where each story starts, and at last where the last one ends: 8 bytes a story in memory."""
        return np.concatenate([*self._in_ring(shard.offsets[:-1] for shard in self.shards), [self.tokens]])

    @cached_property
    def story_begins(self) -> np.ndarray:
        """Where each story is told from, after its order: 8 bytes a story in memory."""
        return np.concatenate(self._in_ring(shard.begins for shard in self.shards))

    def _in_ring(self, of_shards: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Places in shards as places in the ring."""
        return [places.astype(np.int64) + start for places, start in zip(of_shards, self._starts, strict=False)]

    def window(self, start: int, length: int) -> np.ndarray:
        """`length` tokens of the ring from `start` on (any integer), as int64."""
        out = np.empty(length, np.int64)
        self.read_into(out, start)
        return out

    def read_into(self, out: np.ndarray, start: int) -> None:
        """Fill `out` with the tokens of the ring from `start` on."""
        start %= self.tokens
        filled = 0
        while filled < len(out):
            shard = bisect_right(self._starts, start) - 1
            here = start - self._starts[shard]
            piece = self.shards[shard].tokens[here : here + len(out) - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            start = (start + len(piece)) % self.tokens

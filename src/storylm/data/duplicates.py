"""Stories that say the same: exact duplicates by hash, near duplicates by MinHash of word 5-grams.

A story is reduced to a **fingerprint**: 8 bytes of its BLAKE2 hash, then the low byte of each of 128 MinHash values
of its word 5-grams (Broder 1997; the truncation is b-bit MinHash, Li and König 2010, b = 8). Two stories' values
agree with a probability that is the Jaccard similarity of their 5-grams, so the share that agree estimates it,
with a standard error of at most 4.4 points. Candidates come from locality-sensitive hashing: signatures that agree
in all rows of at least one band; each candidate is then verified by the estimate.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
import rensa

from storylm.config.schema import CleaningConfig
from storylm.data.hash_set import HashSet

SHINGLE_WORDS = 5
PERMUTATIONS = 128
_HASH_BYTES = 8
_SEED = 1
_WAYS = 8  # stories a bucket holds
_LOAD = 0.75  # stories a slot, before the tables grow
_BUILD_STORIES = 100_000  # filed at once when they do
_WORD = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """The word 5-grams of a story, without case and punctuation; a shorter story is one shingle.

    >>> shingles("Once upon a time, there was")
    ['once upon a time there', 'upon a time there was']
    """
    words = _WORD.findall(text.lower())
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return [" ".join(words[i : i + SHINGLE_WORDS]) for i in range(last)]


def fingerprint(text: str, config: CleaningConfig) -> bytes:
    """What a story is compared by: 136 bytes, or 8 where no rule compares nearly."""
    exact = hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()
    if not (config.near_duplicates or config.overlap):
        return exact
    minhash = rensa.RMinHash(PERMUTATIONS, _SEED)  # pyright: ignore - compiled, without type stubs
    minhash.update(shingles(text))
    return exact + np.array(minhash.digest(), dtype=np.uint32).astype(np.uint8).tobytes()


def similarity(first: bytes, second: bytes) -> float:
    """The estimated Jaccard similarity of two fingerprints' stories."""
    a, b = (np.frombuffer(mark, np.uint8, offset=_HASH_BYTES) for mark in (first, second))
    return max(0.0, float(_jaccard((a == b).sum())))


def _jaccard(agreeing: np.ndarray) -> np.ndarray:
    """The estimate from how many values agree: of different ones, 1 in 256 has the same low byte by chance."""
    return (agreeing / PERMUTATIONS - 1 / 256) / (1 - 1 / 256)


def band_rows(threshold: float) -> int:
    """Rows of a band: the most that let a pair at the threshold agree in some band with at least 97 %.

    >>> band_rows(0.8)
    7
    """
    return max(rows for rows in range(1, 9) if rows == 1 or 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= 0.97)


class _Signatures:
    """The signatures of kept stories, and which of them share a band with a new one.

    A story takes 128 bytes for its signature and 4 in each band's table (18 bands at a threshold of 0.8), of which a
    quarter is empty: 224 bytes with room for `capacity` stories made at once, up to 340 in tables that grow.
    A full bucket forgets one of its stories; the other bands still know it.
    """

    def __init__(self, threshold: float, capacity: int = 0):
        self.threshold = threshold
        self.rows = band_rows(threshold)
        self.bands = PERMUTATIONS // self.rows
        # Odd multipliers turn the rows of a band into one 64-bit key.
        self.multipliers = np.random.default_rng(_SEED).integers(0, 2**63, self.rows, dtype=np.uint64) * 2 + 1
        self.every_band = np.arange(self.bands)
        self.count = 0
        self.stored = np.empty((max(1024, capacity), PERMUTATIONS), np.uint8)
        self._build(buckets=max(256, int(capacity / (_LOAD * _WAYS)) + 1))

    def keys(self, signatures_SP: np.ndarray) -> np.ndarray:
        """Bucket numbers of signatures (stories, permutations) in each band: (stories, bands)."""
        used = signatures_SP[:, : self.bands * self.rows].reshape(-1, self.bands, self.rows)
        mixed = (used.astype(np.uint64) + np.uint64(1)) @ self.multipliers
        return ((mixed ^ (mixed >> np.uint64(29))) % np.uint64(self.table.shape[1])).astype(np.int64)

    def add(self, signature: np.ndarray) -> None:
        if self.count == len(self.stored):
            self.stored = np.concatenate([self.stored, np.empty_like(self.stored[: self.count // 2])])
        self.stored[self.count] = signature
        self.count += 1
        if self.count > _LOAD * _WAYS * self.table.shape[1]:
            self._build(self.table.shape[1] * 3 // 2)
            return
        bucket = self.keys(signature[None])[0]
        empty = self.table[self.every_band, bucket] < 0
        way = np.where(empty.any(axis=1), empty.argmax(axis=1), self.count % _WAYS)
        self.table[self.every_band, bucket, way] = self.count - 1

    def nearest(self, signature: np.ndarray) -> int | None:
        """The earliest story at or above the threshold, None where there is none."""
        slots = self.table[self.every_band, self.keys(signature[None])[0]]
        candidates = np.unique(slots[slots >= 0])
        agreeing = (self.stored[candidates] == signature).sum(axis=1)
        alike = candidates[_jaccard(agreeing) >= self.threshold]
        return int(alike[0]) if len(alike) else None

    def _build(self, buckets: int) -> None:
        """Tables of `buckets`, with all stories so far."""
        self.table = np.full((self.bands, buckets, _WAYS), -1, np.int32)
        for start in range(0, self.count, _BUILD_STORIES):
            keys_SB = self.keys(self.stored[start : min(self.count, start + _BUILD_STORIES)])
            for band in range(self.bands):
                order = np.argsort(keys_SB[:, band], kind="stable")
                bucket = keys_SB[order, band]
                taken = (self.table[band, bucket] >= 0).sum(axis=1)
                way = taken + np.arange(len(bucket)) - np.searchsorted(bucket, bucket)
                fits = way < _WAYS
                self.table[band, bucket[fits], way[fits]] = start + order[fits]


class DuplicateFilter:
    """Stage 2 of cleaning: tells of each fingerprint, in the order of the source, whether its story is new.

    Deterministic, and independent of who made the fingerprints. A kept story takes 11-21 bytes for its hash
    (`hash_set`), and where stories are compared nearly what `_Signatures` says. With `exact_duplicates` off and
    `near_duplicates` on, exact duplicates are near duplicates too.

    Args:
        against: fingerprints of validation stories, made with the same config; used where `config.overlap` is on.
        capacity: at most so many stories will come, if that is known: room is made for them at once.

    >>> config = CleaningConfig()
    >>> seen = DuplicateFilter(config)
    >>> [seen.check(fingerprint(text, config)) for text in ("A cat sat.", "A dog ran.", "A cat sat.")]
    [None, None, 'exact_duplicates']
    """

    def __init__(self, config: CleaningConfig, against: Iterable[bytes] | None = None, capacity: int = 0):
        held_out = list(against or ()) if config.overlap else []
        self.config = config
        self._hashes = HashSet(capacity if config.exact_duplicates else 0)
        self._held_out = HashSet(len(held_out))
        near = len(held_out) + (capacity if config.near_duplicates else 0)
        self._signatures = _Signatures(config.near_threshold, near)
        for mark in held_out:
            self._held_out.add(_hash(mark))
            self._signatures.add(_signature(mark))
        self._held_out_count = self._signatures.count

    def check(self, mark: bytes) -> str | None:
        """The rule that drops the story with this fingerprint; None: it is kept, and remembered."""
        exact = _hash(mark)
        if exact in self._held_out:
            return "overlap"
        if self.config.exact_duplicates and exact in self._hashes:
            return "exact_duplicates"
        if self.config.near_duplicates or self._held_out_count:
            signature = _signature(mark)
            nearest = self._signatures.nearest(signature)
            if nearest is not None:
                return "overlap" if nearest < self._held_out_count else "near_duplicates"
            if self.config.near_duplicates:
                self._signatures.add(signature)
        if self.config.exact_duplicates:
            self._hashes.add(exact)
        return None


def _hash(mark: bytes) -> int:
    return int.from_bytes(mark[:_HASH_BYTES], "little")


def _signature(mark: bytes) -> np.ndarray:
    return np.frombuffer(mark, np.uint8, offset=_HASH_BYTES)

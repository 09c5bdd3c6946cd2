"""Shuffling without a list: which row comes at which place of an epoch is computed, not stored.

The swap-or-not shuffle (Hoang, Morris and Rogaway, 2012): each round pairs `x` with `key - x` and a hash of the pair
says whether the two swap. It is a permutation whatever the hash, so every row comes exactly once; it takes no
memory however many rows there are; and it is the same on every machine and with every version of NumPy.
"""

from functools import lru_cache

import numpy as np

ROUNDS = 32  # each moves half of the rows: after r rounds a row may be in any of 2**r places
BLOCK = 4096  # places that are shuffled at once


@lru_cache(maxsize=16)
def _keys(seed: int, epoch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each round's pairing key, below `size`, and its hash key."""
    state = scramble(np.array([seed], np.uint64))
    state = scramble(state ^ scramble(np.array([epoch], np.uint64) + np.uint64(1)))
    keys = scramble(state + np.arange(2 * ROUNDS, dtype=np.uint64))
    return keys[:ROUNDS] % np.uint64(size), keys[ROUNDS:]


def scramble(x: np.ndarray) -> np.ndarray:
    """Mix 64-bit integers: one round of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shuffled(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """The rows, of `size`, that come at `places` of this epoch.

    >>> sorted(shuffled(np.arange(5), 5, seed=0, epoch=3).tolist())
    [0, 1, 2, 3, 4]
    """
    assert ((places >= 0) & (places < size)).all(), "a place outside the epoch"
    x = places.astype(np.uint64)
    pairing, hashing = _keys(seed, epoch, size)
    for pair_key, hash_key in zip(pairing, hashing, strict=True):
        partner = (pair_key + np.uint64(size) - x) % np.uint64(size)
        swap = scramble(np.maximum(x, partner) ^ hash_key) & np.uint64(1)
        x = np.where(swap.astype(bool), partner, x)
    return x.astype(np.int64)


@lru_cache(maxsize=16)
def offset(size: int, seed: int, epoch: int) -> int:
    """A number below `size`, another one in each epoch."""
    return int(_keys(seed, epoch, size)[1][0] % np.uint64(size))


def rows_at(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """`shuffled`, faster for the neighbours that batches ask for: one place costs nearly as much as a block of them."""
    blocks, within = np.divmod(places, BLOCK)
    rows = np.empty_like(places)
    for block in np.unique(blocks).tolist():
        now = blocks == block
        rows[now] = _block(block, size, seed, epoch)[within[now]]
    return rows


@lru_cache(maxsize=16)
def _block(number: int, size: int, seed: int, epoch: int) -> np.ndarray:
    return shuffled(np.arange(number * BLOCK, min(size, (number + 1) * BLOCK)), size, seed, epoch)

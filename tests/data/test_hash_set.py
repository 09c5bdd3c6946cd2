"""A set of hashes is a set, whatever it is given and however it grows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storylm.data.hash_set import HashSet

# Few low bits differ, so that many hashes want the same slot; the ends of the range are in it.
HASHES = st.integers(0, 5) | st.integers(0, 31).map(lambda n: n << 59) | st.integers(2**64 - 5, 2**64 - 1)


@given(st.lists(st.tuples(HASHES, st.booleans())))
def test_like_a_set(steps):
    ours, theirs = HashSet(), set()
    for value, add in steps:
        assert (value in ours) == ((value or 1) in theirs)  # 0 stands for 1
        if add:
            ours.add(value)
            theirs.add(value or 1)
        assert len(ours) == len(theirs)


def test_grows_and_takes_no_more_than_it_says():
    values = np.random.default_rng(0).integers(0, 2**64, 30_000, dtype=np.uint64).tolist()
    growing, sized = HashSet(), HashSet(len(values))
    slots = len(sized._slots)
    for value in values:
        growing.add(value)
        sized.add(value)
    assert len(growing) == len(sized) == len(set(values))
    assert all(value in growing and value in sized for value in values)
    assert not any((value ^ 1) in growing for value in values)
    assert len(sized._slots) == slots
    assert all(10 <= filled._slots.nbytes / len(values) <= 21.4 for filled in (growing, sized))

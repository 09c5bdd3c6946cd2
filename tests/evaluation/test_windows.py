import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from storylm.evaluation.windows import batches, padded, windows
from storylm.model.loss import IGNORED

SIZES = st.integers(1, 12).flatmap(lambda context: st.tuples(st.just(context), st.integers(1, context)))


@given(st.integers(0, 60), SIZES)
def test_every_token_is_scored_once_from_what_stands_before_it(length, sizes):
    context, stride = sizes
    ids = np.arange(10, 10 + length)
    cut = list(windows(ids, start_id=1, end_id=2, context=context, stride=stride))
    story = [1, *ids.tolist(), 2]
    scored = []
    for window in cut:
        assert 1 <= len(window.tokens) == len(window.targets) <= context
        first = story.index(int(window.tokens[0]))
        assert window.tokens.tolist() == story[first : first + len(window.tokens)]
        kept = window.targets != IGNORED
        assert kept.any()
        following = np.array(story[first + 1 : first + 1 + len(window.tokens)])
        assert np.array_equal(window.targets[kept], following[kept])
        scored += window.targets[kept].tolist()
        # What is scored in a later window sees at least context - stride tokens and itself.
        assert first == 0 or int(np.argmax(kept)) >= context - stride
    assert scored == story[1:]
    assert [window.last for window in cut] == [False] * (len(cut) - 1) + [True]
    (first,) = windows(ids, 1, 2, context, stride=None)
    assert first.last
    assert (first.tokens.tolist(), first.targets.tolist()) == (story[:-1][:context], story[1 : context + 1])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(16, 80))
def test_batches_hold_every_window_once_and_stay_small(lengths, most):
    all_windows = [
        window for length in lengths for window in windows(np.arange(length) + 5, 1, 2, context=16, stride=8)
    ]
    made = list(batches(all_windows, most))
    assert sorted(id(window) for batch in made for window in batch) == sorted(map(id, all_windows))
    assert all(len(batch) * max(len(window.tokens) for window in batch) <= most for batch in made)


def test_padding_is_on_the_right_and_has_no_targets():
    short, long = next(windows(np.array([7]), 1, 2, 9, 3)), next(windows(np.array([5, 6, 7]), 1, 2, 9, 3))
    tokens, targets = padded([short, long], torch.device("cpu"))
    assert tokens.tolist() == [[1, 7, 0, 0], [1, 5, 6, 7]]
    assert targets.tolist() == [[7, 2, IGNORED, IGNORED], [5, 6, 7, 2]]

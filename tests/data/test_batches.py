"""Batches: an epoch shows every token once, and each batch is a pure function of (seed, step, rank)."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storylm.config.errors import DataError, UsageError
from storylm.data.batches import IGNORED, PackedBatches, PaddedBatches
from storylm.data.order import shuffled
from storylm.data.shards import Shard, TokenSet, write_shard

LAYOUTS = [PackedBatches, PaddedBatches]
END, START = 0, 1


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A token set whose every text token is another one, so that each target tells where it is from."""
    folder = tmp_path_factory.mktemp("batches")
    count = 0

    def make(lengths: list[int], shards: int = 1, start: int = END) -> TokenSet:
        nonlocal count
        count += 1
        ids = iter(range(10, 10 + sum(lengths)))
        stories = [[*([start] if start != END else []), *(next(ids) for _ in range(n)), END] for n in lengths]
        paths = [folder / f"{count}-{shard}.tokens" for shard in range(min(shards, len(stories)))]
        for shard, path in enumerate(paths):
            cut = slice(len(stories) * shard // len(paths), len(stories) * (shard + 1) // len(paths))
            write_shard(path, stories[cut], vocab_size=2000, start_id=start, end_id=END, tokenizer="t")
        return TokenSet([Shard(path) for path in paths])

    return make


corpora = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(1, 30), min_size=1, max_size=12),
        "shards": st.integers(1, 3),
        "start": st.sampled_from([END, START]),
    }
)
shapes = st.fixed_dictionaries(
    {"context": st.integers(2, 17), "batch_size": st.integers(1, 5), "seed": st.integers(0, 3)}
)


def epoch_rows(batches, epoch: int = 0):
    """The rows of one epoch, each as (tokens, targets, positions, documents) lists, without those of its neighbours."""
    size, rows = batches.batch_size, batches.rows_per_epoch
    for number in range(epoch * rows, (epoch + 1) * rows):
        batch, row = batches.batch(number // size), number % size
        parts = (batch.tokens_BT, batch.targets_BT, batch.positions_BT, batch.documents_BT)
        yield tuple(None if part is None else part[row].tolist() for part in parts)


def stream_of(tokens: TokenSet) -> list[int]:
    return tokens.window(0, tokens.tokens).tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30, deadline=None)
@given(corpora, shapes, st.integers(0, 2))
def test_an_epoch_shows_every_token_once(make, layout, corpus, shape, epoch):
    tokens = make(**corpus)
    batches = layout(tokens, **shape)
    shown = Counter(t for _, targets, *_ in epoch_rows(batches, epoch) for t in targets if t != IGNORED)
    expected = Counter(stream_of(tokens))
    if corpus["start"] != END:
        del expected[START]  # given, never predicted
    assert shown == expected
    assert batches.tokens_per_epoch == shown.total()
    assert batches.steps_per_epoch == batches.rows_per_epoch / shape["batch_size"]


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30, deadline=None)
@given(corpora, shapes)
def test_targets_are_the_next_tokens(make, layout, corpus, shape):
    tokens = make(**corpus)
    stream = stream_of(tokens)
    follows = set(zip(stream, stream[1:] + stream[:1], strict=True))
    for row, targets, *_ in epoch_rows(layout(tokens, **shape)):
        for i, (token, target) in enumerate(zip(row, targets, strict=True)):
            if target != IGNORED:
                assert (token, target) in follows
                assert i + 1 == len(row) or targets[i + 1] == IGNORED or row[i + 1] == target


def rows_of(batch) -> list[tuple[list[int], list[int]]]:
    """Tokens and targets of each row, without padding; none of a row that is there only to keep up."""
    rows = zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True)
    kept = [[(token, target) for token, target in zip(*row, strict=True) if target != IGNORED] for row in rows]
    return [tuple(map(list, zip(*row, strict=True))) for row in kept if row]


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60, deadline=None)
@given(corpora, shapes, st.integers(0, 20), st.integers(1, 5), st.integers(1, 4))
def test_ranks_share_out_the_rows_of_a_step(make, layout, corpus, shape, step, ranks, accumulation):
    batches = layout(make(**corpus), accumulation=accumulation, **shape)
    rows = shape["batch_size"] * accumulation
    if ranks > rows:
        with pytest.raises(UsageError, match=f"shared by {ranks} processes: set train.batch_size="):
            batches.micro_batches(ranks)
        return
    alone = [row for micro in range(accumulation) for row in rows_of(batches.batch(step, micro))]
    shares = [
        [batches.batch(step, micro, rank, ranks) for micro in range(batches.micro_batches(ranks))]
        for rank in range(ranks)
    ]
    assert [row for share in shares for batch in share for row in rows_of(batch)] == alone
    sizes = [sum(len(rows_of(batch)) for batch in share) for share in shares]
    if len(alone) == rows:  # no row of only a start token
        assert sum(sizes) == rows
        assert max(sizes) - min(sizes) <= 1
    assert max(len(batch.tokens_BT) for share in shares for batch in share) <= shape["batch_size"]
    assert batches.micro_batches(ranks) == -(-rows // (ranks * shape["batch_size"]))


def test_one_rank_has_the_batches_of_one_device(make):
    batches = PackedBatches(make([7, 30, 3] * 9), context=8, batch_size=3, accumulation=4)
    assert batches.micro_batches() == 4
    sizes = [len(batches.batch(1, micro).tokens_BT) for micro in range(4)]
    assert sizes == [3, 3, 3, 3]


def test_a_rank_with_a_row_less_keeps_up_and_learns_nothing(make):
    batches = PackedBatches(make([7, 30, 3] * 9), context=8, batch_size=1, accumulation=3)
    shares = [[batches.batch(0, micro, rank, 2) for micro in range(2)] for rank in range(2)]
    learned = [[int((batch.targets_BT != IGNORED).sum()) for batch in share] for share in shares]
    assert learned == [[0, 8], [8, 8]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_is_a_pure_function(make, layout):
    tokens = make([7, 30, 3, 12, 25] * 8, shards=3)
    settings = {"context": 8, "batch_size": 3, "accumulation": 2, "separate_stories": True}
    first = layout(tokens, seed=5, **settings)
    seen = {(step, micro): first.batch(step, micro) for step in range(40) for micro in range(2)}
    fresh = layout(tokens, seed=5, **settings)
    for (step, micro), batch in reversed(seen.items()):  # backwards, by another object
        again = fresh.batch(step, micro)
        assert torch.equal(again.tokens_BT, batch.tokens_BT)
        assert torch.equal(again.targets_BT, batch.targets_BT)
        if batch.positions_BT is not None:
            assert torch.equal(again.positions_BT, batch.positions_BT)
            assert torch.equal(again.documents_BT, batch.documents_BT)
    other = layout(tokens, seed=6, **settings)
    assert any(not torch.equal(other.batch(s).targets_BT, seen[s, 0].targets_BT) for s in range(3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_epoch_has_an_order_of_its_own(make, layout):
    batches = layout(make([7] * 50), context=8, batch_size=1, seed=0)
    orders = [[tuple(targets) for _, targets, *_ in epoch_rows(batches, epoch)] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] != sorted(orders[0])


def test_packed_rows_are_cut_elsewhere_in_each_epoch(make):
    batches = PackedBatches(make([7] * 50), context=8, batch_size=1)
    cuts = [{row[0] for row, *_ in epoch_rows(batches, epoch)} for epoch in range(3)]
    assert len(set(map(frozenset, cuts))) > 1


def test_packed_and_padded_predict_the_same_tokens(make):
    for start in (END, START):
        tokens = make([7, 40, 3, 12], start=start)
        shown = [
            Counter(t for _, targets, *_ in epoch_rows(layout(tokens, context=16, batch_size=2)) for t in targets)
            for layout in LAYOUTS
        ]
        for counts in shown:
            del counts[IGNORED]
        assert shown[0] == shown[1]


def test_the_first_story_is_given_an_end_token(make):
    tokens = make([5, 6])
    for layout in LAYOUTS:
        given = {
            t: token
            for row, ts, *_ in epoch_rows(layout(tokens, context=4, batch_size=1))
            for token, t in zip(row, ts, strict=True)
        }
        assert given[10] == END  # story one's first token
        assert given[15] == END  # story two's


# -- separate stories ------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(corpora, shapes)
def test_separate_stories_do_not_see_each_other(make, corpus, shape):
    tokens = make(**corpus)
    stream, starts = stream_of(tokens), tokens.story_starts.tolist()
    story_of = {token: np.searchsorted(starts, i, "right") - 1 for i, token in enumerate(stream) if token > START}
    for row, targets, positions, documents in epoch_rows(PackedBatches(tokens, separate_stories=True, **shape)):
        assert max(positions) < shape["context"]
        for document in set(documents):
            here = [i for i, one in enumerate(documents) if one == document]
            assert here == list(range(here[0], here[-1] + 1))
            assert [positions[i] for i in here] == list(range(positions[here[0]], positions[here[0]] + len(here)))
            texts = {story_of[row[i]] for i in here if row[i] > START}
            texts |= {story_of[targets[i]] for i in here if targets[i] > START}
            assert len(texts) <= 1, "two stories in one document"
            if here[0] > 0:  # only the row's first document may be a cut story
                assert positions[here[0]] == 0
                assert row[here[0]] == corpus["start"], "a story begins with the start token"
    plain = PackedBatches(tokens, **shape).batch(0)
    assert plain.positions_BT is None
    assert plain.documents_BT is None


def test_positions_of_cut_stories(make):
    tokens = make([5, 7, 20])  # with their end tokens 6, 8 and 21: the second just fits a row
    starts = tokens.story_starts.tolist()
    place_of = {token: i for i, token in enumerate(stream_of(tokens))}
    batches = PackedBatches(tokens, context=8, batch_size=1, separate_stories=True)
    seen = set()
    for epoch in range(60):
        for _, targets, positions, _ in epoch_rows(batches, epoch):
            if targets[0] < 10:  # ignored, or an end token, which does not tell its story
                continue
            story = np.searchsorted(starts, place_of[targets[0]], "right") - 1
            place, end = place_of[targets[0]] - starts[story], starts[story + 1] - starts[story]
            fits = min(place + 8, end) <= 8
            assert positions[0] == (place if fits else 0)
            seen.add((int(story), fits))
    assert seen == {(0, True), (1, True), (2, True), (2, False)}


# -- padded ----------------------------------------------------------------------------------------------


def test_padded_rows_hold_one_story_each(make):
    lengths = [7, 40, 3, 100]
    tokens = make(lengths)
    batches = PaddedBatches(tokens, context=32, batch_size=2, separate_stories=True)
    assert batches.rows_per_epoch == 1 + 2 + 1 + 4  # with their end tokens 8, 41, 4, 101
    for row, targets, positions, documents in epoch_rows(batches):
        assert positions is None
        assert documents is None
        real = [t for t in targets if t != IGNORED]
        assert targets == real + [IGNORED] * (len(targets) - len(real))
        assert END not in real[:-1]
        assert row[1 : len(real)] == real[:-1]
        assert set(row[len(real) :]) <= {END}


def test_padded_width_follows_the_longest_row(make):
    batches = PaddedBatches(make([10] * 30 + [50, 200]), context=512, batch_size=1)
    widths = sorted({batches.batch(step).tokens_BT.shape[1] for step in range(batches.rows_per_epoch)})
    assert widths == [64, 256]  # multiples of an eighth of the context
    narrow = PaddedBatches(make([200]), context=100, batch_size=3)
    assert narrow.batch(0).tokens_BT.shape == (3, 100)


# -- the rest --------------------------------------------------------------------------------------------


def test_tensors_and_devices(make):
    batch = PackedBatches(make([9, 9]), context=4, batch_size=3, separate_stories=True).batch(0)
    moved = batch.to("meta")
    for name in ("tokens_BT", "targets_BT", "positions_BT", "documents_BT"):
        tensor = getattr(batch, name)
        assert (tensor.shape, tensor.dtype) == ((3, 4), torch.int64)
        assert getattr(moved, name).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_on_a_gpu_is_the_same(make):
    batch = PackedBatches(make([9, 9]), context=4, batch_size=3, separate_stories=True).batch(0)
    moved = batch.to("cuda")
    for name in ("tokens_BT", "targets_BT", "positions_BT", "documents_BT"):
        assert getattr(moved, name).dtype == torch.int64
        assert torch.equal(getattr(moved, name).cpu(), getattr(batch, name))


def test_no_stories_are_refused():
    for layout in LAYOUTS:
        with pytest.raises(DataError, match="no stories"):
            layout(TokenSet([]), context=4, batch_size=1)


@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(0, 50))
def test_shuffling_is_a_permutation(size, seed, epoch):
    assert sorted(shuffled(np.arange(size), size, seed, epoch).tolist()) == list(range(size))
    assert shuffled(np.array([size - 1]), size, seed, epoch) == shuffled(np.arange(size), size, seed, epoch)[-1]


def test_shuffling_is_fair():
    seen = Counter(tuple(shuffled(np.arange(4), 4, seed, 0).tolist()) for seed in range(1200))
    assert len(seen) == 24
    assert sum((count - 50) ** 2 / 50 for count in seen.values()) < 49.7  # chi-square, 23 degrees: p = 0.001
    order = shuffled(np.arange(5000), 5000, 1, 0)
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05


def test_the_order_is_the_same_for_ever():
    # A resumed run on another machine or with another NumPy must find the same rows.
    assert shuffled(np.arange(10), 10, 0, 0).tolist() == [8, 4, 5, 3, 0, 9, 2, 6, 1, 7]

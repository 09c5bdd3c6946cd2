"""Texts scored piece by piece against the whole of them at once, and against what was drawn with the same weights."""

import pytest
import torch

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.model import ModelConfig
from storylm.generation import reading, torch_reader
from storylm.generation.decoder import Decoder
from storylm.generation.draft import Draft
from storylm.generation.reading import PRECISIONS, build_reader
from storylm.generation.sampling import Sampling
from storylm.generation.scoring import score

VOCABULARY = SHAPE["vocab_size"] - 3
PIECE = 16


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    for module in (reading, torch_reader):
        monkeypatch.setattr(module, "AT_ONCE", PIECE)


def model_of(variant: str):
    return build(ModelConfig(**{**SHAPE, **VARIANTS[variant], "context": 80, "init_std": 0.2})).eval()


def ids(length: int) -> list[int]:
    return torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(length)).tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_pieces_are_scored_as_the_whole_is(variant, by):
    model = model_of(variant)
    reader = build_reader(model, slots=3, capacity=80)
    list(score(reader, 1, ids(80), VOCABULARY))  # a longer text was in the slot
    for length in (1, 2, PIECE, PIECE + 1, 2 * PIECE + 1, 70):
        text = ids(length)
        pieces = list(score(reader, 1, text, VOCABULARY, 3))
        assert max(map(len, pieces), default=0) <= PIECE
        found = [likelihood for piece in pieces for likelihood in piece]
        with torch.inference_mode():
            logprobs_TV = model(torch.tensor([text]))[0, :-1, :VOCABULARY].log_softmax(-1)
        assert len(found) == length - 1
        for likelihood, logprobs_V, token in zip(found, logprobs_TV, text[1:], strict=True):
            assert likelihood.nats == pytest.approx(float(logprobs_V[token]), abs=1e-4)
            assert list(likelihood.instead) == logprobs_V.topk(3).indices.tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_was_drawn_is_as_likely_when_it_is_scored(precision, by):
    """In the precision that it was drawn in, stories beside it undisturbed."""
    model = model_of("qwen3")
    reader = build_reader(model, slots=3, capacity=80, precision=precision)
    decoder = Decoder(reader, VOCABULARY)
    drafts = [Draft(ids(9), seed, Sampling(temperature=1.0), watch=0) for seed in range(2)]
    for draft in drafts:
        decoder.add(draft)
    while len(drafts[0].drawn) < 50:
        decoder.step()
    decoder.end(drafts[:1])
    slot = decoder.borrow()
    assert slot is not None
    scored: list[float] = []
    for piece in score(reader, slot, [*drafts[0].prompt_ids, *drafts[0].drawn], VOCABULARY):
        decoder.step()
        scored += [likelihood.nats for likelihood in piece]
    expected, scored = [likelihood.nats for likelihood in drafts[0].likelihoods], scored[8:]
    assert scored == pytest.approx(expected, abs=1e-4)
    if precision != "fp32":
        with torch.inference_mode():
            logits_TV = model(torch.tensor([[*drafts[0].prompt_ids, *drafts[0].drawn]]))[0, 8:-1, :VOCABULARY]
        drawn = torch.tensor(drafts[0].drawn)
        of_fp32 = logits_TV.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
        assert float((of_fp32 - torch.tensor(scored)).abs().max()) > 1e-3
    alone = Decoder(build_reader(model, slots=1, capacity=80, precision=precision), VOCABULARY)
    alone.add(again := Draft(ids(9), 1, Sampling(temperature=1.0)))
    while len(again.drawn) < len(drafts[1].drawn):
        alone.step()
    assert again.drawn == drafts[1].drawn


def test_a_borrowed_slot_is_no_storys(by):
    decoder = Decoder(build_reader(model_of("gpt2"), slots=2, capacity=80), VOCABULARY)
    slots = [decoder.borrow() for _ in range(3)]
    assert sorted(slots[:2]) == [0, 1]
    assert slots[2] is None
    decoder.add(draft := Draft([1, 2], seed=0, sampling=Sampling()))
    decoder.step()
    assert (decoder.running, draft.drawn) == (0, [])
    decoder.give_back(slots[0])
    decoder.step()
    assert (decoder.running, len(draft.drawn)) == (1, 1)

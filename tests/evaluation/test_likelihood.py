import json
import math

import pytest
import torch
from torch.nn import functional as F

import storylm
from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.evaluation import likelihood
from storylm.evaluation.likelihood import Likelihood, evaluate
from storylm.model.llama2c import read_llama2c
from storylm.model.transformer import Transformer


def by_the_book(theirs, letters, stories, context, stride) -> Likelihood:
    """transformers' forward pass for every token by itself, and nothing shared with the code under test.

    With a stride, token i of a story is the last of a window that begins where its turn in the stride says.
    """
    nats = special = 0.0
    tokens = size = cut = ends = 0
    for story in stories:
        ids = [256, *story.encode(), 256]
        cut += len(ids) - 2 > context
        if stride is None:
            ids = ids[: context + 1]
        size += len(bytes(ids[1:-1] if ids[-1] == 256 else ids[1:]).decode(errors="ignore").encode())
        for target in range(1, len(ids)):
            first = max(0, math.ceil((target - context) / stride)) * stride if stride else 0
            with torch.inference_mode():
                logits = theirs(torch.tensor([ids[first:target]])).logits[0, -1].double()
            lost = float(F.cross_entropy(logits, torch.tensor(ids[target])))
            if ids[target] == 256:
                special, ends = special + lost, ends + 1
            else:
                nats, tokens = nats + lost, tokens + 1
    return Likelihood(nats, tokens, size, len(stories), cut, special, ends, context, stride)


def same(one: Likelihood, other: Likelihood) -> bool:
    return one.stride == other.stride and all(
        figure == pytest.approx(other.to_json()[name], rel=1e-6)
        for name, figure in one.to_json().items()
        if name != "stride"
    )


@pytest.mark.parametrize("stride", [None, 1, 7, 32])
def test_the_figures_are_those_of_the_textbook(model, theirs, letters, stories, stride):
    found = evaluate(model, letters, stories, stride=stride)
    assert same(found, by_the_book(theirs, letters, stories, 32, stride))
    assert found.perplexity == pytest.approx(math.exp(found.nats_per_token))
    assert found.truncated_stories == 6  # two of the seven, three times
    if stride is None:
        assert found.special_tokens == 12  # no end was reached by those, nor by the one of just 32 tokens
        assert found.tokens == found.bytes + 3 * 2  # two bytes of a character whose third is cut off
    else:
        # Every byte is a token, and every story's end is scored.
        assert found.special_tokens == found.stories == 21
        assert found.tokens == found.bytes == sum(len(story.encode()) for story in stories)
        assert found.bits_per_byte == pytest.approx(found.nats_per_token / math.log(2))


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batches_and_their_padding_change_nothing(model, letters, stories, batch_size):
    assert same(evaluate(model, letters, stories, batch_size=batch_size), evaluate(model, letters, stories))


def test_totals_add_up_and_the_order_does_not_matter(model, letters, stories, monkeypatch):
    whole = evaluate(model, letters, stories)
    parts = [evaluate(model, letters, [story]) for story in stories[::-1]]
    for name in ("nats", "tokens", "bytes", "stories", "truncated_stories", "special_nats", "special_tokens"):
        assert getattr(whole, name) == pytest.approx(sum(getattr(part, name) for part in parts), rel=1e-6)
    monkeypatch.setattr(likelihood, "STORIES_AT_ONCE", 4)
    assert same(evaluate(model, letters, iter(stories)), whole)


def test_a_stride_does_not_matter_to_stories_that_fit(model, letters):
    short = ["A cat.", "x" * 31]
    assert evaluate(model, letters, short, stride=1).nats == pytest.approx(evaluate(model, letters, short).nats)


def test_one_story_may_come_alone(model, letters):
    assert evaluate(model, letters, "A cat.") == evaluate(model, letters, ["A cat."])


def test_progress_counts_up_to_all_of_it(model, letters, stories):
    seen: list[tuple[int, int]] = []
    found = evaluate(model, letters, stories, batch_size=2, progress=lambda *done: seen.append(done))
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == (found.stories, found.tokens)


def test_the_model_is_left_as_it_was_and_dropout_is_off(model, letters, stories):
    dropping = Transformer(model.config.model_copy(update={"dropout": 0.5})).train()
    dropping.load_state_dict(model.state_dict())
    assert same(evaluate(dropping, letters, stories), evaluate(model, letters, stories))
    assert dropping.training


def test_json_holds_every_figure_and_total(model, letters, stories):
    found = evaluate(model, letters, stories)
    written = json.loads(json.dumps(found.to_json()))
    assert written["bits_per_byte"] == found.bits_per_byte
    assert {"nats", "tokens", "bytes", "stories", "context", "stride", "special_nats"} <= set(written)


def test_perplexity_of_a_hopeless_model_is_not_an_error():
    assert Likelihood(1e6, 10, 10, 1, 0, 1.0, 1, 32, 16).perplexity == math.inf


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"stride": 0}, "stride=0"), ({"stride": 33}, "context, 32"), ({"batch_size": 0}, "batch_size=0")],
)
def test_mistakes_say_what_is_allowed(model, letters, wrong, words):
    with pytest.raises(UsageError, match=words):
        evaluate(model, letters, ["a"], **wrong)


@pytest.mark.parametrize("nothing", [[], ["", ""]])
def test_nothing_to_score_is_an_error(model, letters, nothing):
    with pytest.raises(DataError, match=f"no text to score: {len(nothing)} stories"):
        evaluate(model, letters, nothing)


def test_a_tokenizer_of_another_model_is_refused(letters):
    small = storylm.Transformer(storylm.ModelConfig(family="gpt2", vocab_size=100, layers=1, width=8, heads=1))
    with pytest.raises(CheckpointError, match="257 tokens but the model only 100"):
        evaluate(small, letters, ["a"])


def test_stories260k_gets_its_known_figure_on_real_stories(shared, valid_stories):
    """1.314 nats per token and 0.914 bits per byte, as a forward pass in NumPy, written for that alone, found."""
    folder = shared / "reference" / "stories260K"
    model = read_llama2c(folder / "stories260K.bin")
    tokenizer = storylm.Tokenizer.load(folder / "tok512.model")
    found = evaluate(model, tokenizer, valid_stories)
    assert found.stories == len(valid_stories) == 650
    assert found.truncated_stories == sum(len(tokenizer.encode(story)) > 512 for story in valid_stories) == 81
    assert found.nats_per_token == pytest.approx(1.314, abs=5e-4)
    assert found.bits_per_byte == pytest.approx(0.914, abs=5e-4)

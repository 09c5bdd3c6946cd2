"""Parts of stories: nothing lost, nothing counted twice, the same parts for every tokenizer."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.evaluation.calibration import calibrate, likeliest
from storylm.evaluation.details import Details, byte_starts, parts_of, spread
from storylm.evaluation.likelihood import evaluate
from storylm.text.tokenizer import Tokenizer


@given(st.text(max_size=40))
def test_characters_begin_at_their_bytes(text):
    assert byte_starts(text).tolist() == [len(text[:end].encode()) for end in range(len(text) + 1)]


def test_nats_are_spread_over_the_bytes_of_a_token():
    # "né " of three tokens: n, é, and an empty one, whose nats go to the byte that follows
    spans = np.array([[0, 1], [1, 2], [2, 2]])
    assert spread("né ", spans, np.array([1.0, 4.0, 3.0]), 4).tolist() == [1, 2, 2, 3]
    # Of a story cut to two bytes, a token that stands for more has all its nats in what is left.
    assert spread("né ", spans[:2], np.array([1.0, 4.0]), 2).tolist() == [1, 4]


def parts(text: str, size: int | None = None) -> dict[tuple[str, str], str]:
    """The text of every part."""
    data = text.encode()
    found = {}
    for kind, name, where in parts_of(text, size or len(data)):
        chosen = data[where] if isinstance(where, slice) else bytes(np.frombuffer(data[: len(where)], np.uint8)[where])
        found[kind, name] = found.get((kind, name), "") + chosen.decode()
    return found


def test_every_byte_is_in_the_part_it_belongs_to():
    text = 'Lily saw a zebra. "Hi, Lily!" it said.\nShe ran to Tom.'
    found = parts(text)
    assert found["words", "names"] == "Lily Lily Tom"
    assert found["words", "rare words"] == " zebra"
    assert found["words", "other words"] == " saw aHi it saidShe ran to"
    assert found["words", "between words"] == '. ",!".\n.'
    assert found["speech", "speech"] == '"Hi, Lily!"'
    assert found["sentence", "first"] == "Lily saw a zebra."
    assert found["sentence", "first"] + found["sentence", "rest"] == text
    assert found["position", "0-99"] == found["length", "0-399"] == text
    long = "word " * 100
    assert found.keys() < parts(long).keys() | found.keys()
    assert [len(parts(long)["position", name]) for name in ("0-99", "100-199", "200-399", "400-799")] == [
        100,
        100,
        200,
        100,
    ]
    assert ("length", "400-799") in parts(long)


def test_a_word_is_rare_however_many_stories_are_judged():
    """In one story every word is in all of them; in a thousand, a new one is in a thousandth."""
    assert parts("The zebra ran.")["words", "rare words"] == " zebra"
    assert parts("The zebra ran to the happy zebra, and the zebra sat.")["words", "rare words"] == " zebra" * 3


@pytest.mark.parametrize("stride", [None, 9])
def test_the_parts_of_each_kind_add_up_to_the_whole(model, letters, stories, stride):
    details = Details(model, letters)
    whole = evaluate(model, letters, [*stories, "   "], stride=stride, listeners=[details])
    found = details.breakdown()
    assert set(found.parts) == {"position", "length", "sentence", "words", "speech"}
    for of_kind in found.parts.values():
        assert sum(part.nats for part in of_kind.values()) == pytest.approx(whole.nats, rel=1e-5)
        assert sum(part.bytes for part in of_kind.values()) == whole.bytes
    assert sum(one.tokens for one in found.calibration.bins) == whole.tokens
    assert json.loads(json.dumps(found.to_json()))["parts"]["speech"]["told"]["bits_per_byte"] == pytest.approx(
        found.parts["speech"]["told"].nats / math.log(2) / found.parts["speech"]["told"].bytes
    )


def test_windows_of_a_long_story_are_put_together_in_order(model, letters):
    """What its first hundred bytes cost does not depend on what comes after them."""
    story, details = "Once upon a time, in a forest - " * 9, Details(model, letters)
    evaluate(model, letters, ["Short.", story], stride=9, listeners=[details])
    beginning = story[:100]
    expected = evaluate(model, letters, [beginning], stride=9).nats + evaluate(model, letters, ["Short."]).nats
    assert details.breakdown().parts["position"]["0-99"].nats == pytest.approx(expected, rel=1e-5)


def test_the_parts_of_several_stories_are_those_of_each(model, letters):
    texts = ['Tom ran. "Hi!" he said.', "A long story – it goes on. " * 6, "One more."]
    each = []
    for some in (texts, *([text] for text in texts)):
        details = Details(model, letters)
        evaluate(model, letters, some, stride=9, listeners=[details])
        each.append(details.breakdown().parts)
    together, *alone = each
    for kind in ("position", "length", "sentence", "speech"):
        for name, part in together[kind].items():
            sums = [parts[kind][name].nats for parts in alone if name in parts[kind]]
            assert part.nats == pytest.approx(sum(sums), rel=1e-5), (kind, name)


def test_a_token_that_is_hard_makes_its_own_part_hard(model, letters):
    """Each byte is a token here, so the nats of names are those of their letters."""

    class Heard:
        nats: dict[int, float]

        def __init__(self):
            self.nats = {}

        def story(self, number, text, scored):
            pass

        def tokens(self, scored):
            self.nats |= dict(zip(scored.places.tolist(), scored.nats.tolist(), strict=True))

    text, heard, details = "He saw Tom run.", Heard(), Details(model, letters)
    evaluate(model, letters, [text], listeners=[heard, details])
    name = details.breakdown().parts["words"]["names"]
    assert name.bytes == 4
    assert name.nats == pytest.approx(sum(heard.nats[place] for place in range(6, 10)), rel=1e-5)


def test_parts_are_the_same_bytes_for_every_tokenizer(shared, valid_stories):
    from storylm.config.model import ModelConfig
    from storylm.model.transformer import Transformer

    sizes = []
    for name in ("bytes", shared / "reference" / "gpt2", shared / "reference" / "mistral"):
        tokenizer = Tokenizer.load(name)
        config = ModelConfig(family="gpt2", vocab_size=tokenizer.vocab_size, context=2048, layers=1, width=8, heads=1)
        network = Transformer(config).eval()
        details = Details(network, tokenizer)
        whole = evaluate(network, tokenizer, valid_stories[:8], listeners=[details])
        found = details.breakdown().parts
        assert sum(part.nats for part in found["words"].values()) == pytest.approx(whole.nats, rel=1e-4)
        sizes.append({kind: {name: part.bytes for name, part in found[kind].items()} for kind in found})
    assert sizes[0] == sizes[1] == sizes[2]


def test_calibration_by_hand():
    sure = np.array([0.2, 0.9, 0.4, 0.8, 0.3, 0.6])
    right = np.array([False, True, True, True, False, False])
    found = calibrate(sure, right, bins=2)
    assert [(one.tokens, round(one.confidence, 6), round(one.accuracy, 6)) for one in found.bins] == [
        (3, 0.3, 0.333333),
        (3, 0.766667, 0.666667),
    ]
    assert found.error == pytest.approx((0.033333 + 0.1) / 2, abs=1e-5)
    assert len(calibrate(sure[:2], right[:2], bins=15).bins) == 2


def test_a_model_right_as_often_as_it_is_sure_has_no_error_and_one_too_sure_has_much():
    generator = np.random.default_rng(0)
    sure = generator.random(200_000)
    assert calibrate(sure, generator.random(200_000) < sure).error < 0.005
    assert calibrate(sure, generator.random(200_000) < sure * 0.7).error == pytest.approx(0.15, abs=0.01)


def test_the_likeliest_token_is_that_of_the_whole_softmax(model, monkeypatch):
    import torch

    hidden, weight = torch.randn(50, 24, generator=torch.Generator().manual_seed(0)), model.head_weight
    logits = hidden @ weight.detach().T
    targets = logits.argmax(-1).numpy().copy()
    targets[::2] = 0
    monkeypatch.setattr("storylm.evaluation.calibration._ELEMENTS", 7 * len(weight))
    sure, right = likeliest(hidden, weight, targets)
    assert np.allclose(sure, logits.softmax(-1).max(-1).values, atol=1e-6)
    assert right.tolist() == (logits.argmax(-1).numpy() == targets).tolist()
    assert 0 < right.sum() < 50

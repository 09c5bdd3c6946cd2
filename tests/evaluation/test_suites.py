"""The suites are fair (nothing but the story gives the answer away), and scoring finds who knows."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from storylm.config.errors import UsageError
from storylm.evaluation.answers import Answer, ask, continuation_nats, measures
from storylm.evaluation.bootstrap import wilson
from storylm.evaluation.suites import SUITES, Item, Suite, load_suite
from storylm.text.words import name_spans, words


@pytest.fixture(scope="module", params=SUITES)
def suite(request) -> Suite:
    return load_suite(request.param)


def shown(item: Item, number: int) -> str:
    return item.continuations[number].rstrip('."')


CHOOSERS = {
    "shortest": lambda item, k: -len(item.continuations[k]),
    "longest": lambda item, k: len(item.continuations[k]),
    "first in the alphabet": lambda item, k: -ord(item.continuations[k][0]),
    "first mentioned": lambda item, k: -(item.beginning.find(shown(item, k)) % 10_000),
    "last mentioned": lambda item, k: item.beginning.rfind(shown(item, k)),
    "most mentioned": lambda item, k: item.beginning.count(shown(item, k)),
    "least mentioned": lambda item, k: -item.beginning.count(shown(item, k)),
    "most words in common": lambda item, k: len(set(words(item.continuations[k])) & set(words(item.beginning))),
    "position": lambda item, k: k,
}


def accuracy(suite: Suite, score) -> float:
    """Of a chooser by score; where several are best, the chance that the right one is taken."""
    total = 0.0
    for item in suite.items:
        scores = [score(item, k) for k in range(len(item.continuations))]
        best = [k for k, one in enumerate(scores) if one == max(scores)]
        total += (item.right in best) / len(best)
    return total / len(suite.items)


def test_there_are_enough_items_and_none_twice(suite):
    assert len(suite.items) >= 60
    assert len({item.beginning for item in suite.items}) == len(suite.items)
    assert len({item.continuations for item in suite.items}) == len({item.group for item in suite.items})
    for item in suite.items:
        assert len(set(item.continuations)) == len(item.continuations) >= 4
        assert item.beginning == item.beginning.strip()
        assert all(text == text.strip() for text in item.continuations)


FUNCTION_WORDS = """
a an the this that these those my your his her its our their i you he she it we they me him us them who what
which in on at by to of for from with into onto under over up down out off about after before and or but so
because if when while as than then too very not no am is are was were be been being have has had do does did
will would can could shall should may might must there here
"""
"""Words of closed classes, numbers left out."""


def test_a_free_continuation_is_known_by_words_that_mean_something(suite):
    for item in suite.items:
        keys = [word for own in item.keys for word in own]
        assert len(item.keys) == len(item.continuations)
        assert len(keys) == len(set(keys))
        assert not set(FUNCTION_WORDS.split()) & set(keys), item
        for number, text in enumerate(item.continuations):
            assert item.keys[number] & set(words(text)), item
            assert [bool(own & set(words(text))) for own in item.keys].count(True) == 1, item
            assert item.is_told(f" {text}") == (number == item.right)


def test_continuations_are_as_long_as_each_other(suite):
    for item in suite.items:
        lengths = [len(text) for text in item.continuations]
        assert max(lengths) - min(lengths) <= 2, item.continuations
        assert len({len(text.split()) for text in item.continuations}) == 1, item.continuations


@pytest.mark.parametrize("name", CHOOSERS)
def test_who_does_not_read_the_story_is_near_chance(suite, name):
    """Within a sixteenth, four items of 64; exactly there for what never looks at a beginning."""
    found = accuracy(suite, CHOOSERS[name])
    if name in ("shortest", "longest", "first in the alphabet", "position"):
        assert found == pytest.approx(suite.chance)
    assert abs(found - suite.chance) <= 1 / 16


def test_every_continuation_is_right_once_in_its_group(suite):
    """So anyone who looks at continuations alone, with whatever knowledge of their probability, is at chance."""
    for group in {item.group for item in suite.items}:
        items = [item for item in suite.items if item.group == group]
        assert sorted(item.right for item in items) == list(range(len(items[0].continuations)))
    generator = np.random.default_rng(0)
    liking = {text: generator.random() for item in suite.items for text in item.continuations}
    assert accuracy(suite, lambda item, k: liking[item.continuations[k]]) == pytest.approx(suite.chance)


def test_words_are_those_of_the_stories_and_the_likeliest_word_is_no_answer(suite, train_stories):
    counts = Counter(word for story in train_stories for word in words(story))
    total = sum(counts.values())
    rare = {
        word
        for item in suite.items
        for text in (item.beginning, *item.continuations)
        for word in words(text)
        if counts[word] < 3 and word not in {text[slice(*span)].lower() for span in name_spans(text)}
    }
    assert not rare

    def unigram(item: Item, k: int) -> float:
        found = words(item.continuations[k])
        return sum(np.log((counts[word] + 1) / total) for word in found) / len(found)

    assert accuracy(suite, unigram) == pytest.approx(suite.chance)


def test_nats_are_those_of_the_continuation_alone(model, letters):
    pairs = [("A cat", "sat."), ("Ö", "é!")]
    found = continuation_nats(model, letters, pairs)
    for (beginning, text), (per_byte, per_token) in zip(pairs, found, strict=True):
        ids = [letters.start_id, *f"{beginning} {text}".encode()]
        with torch.inference_mode():
            logits = model(torch.tensor([ids]))[0, :-1]
        first = len(beginning.encode())
        nats = F.cross_entropy(logits[first:].double(), torch.tensor(ids[1 + first :]), reduction="sum")
        assert per_byte == pytest.approx(float(nats) / len(f" {text}".encode()), rel=1e-5)
        assert per_token == pytest.approx(per_byte)  # every byte is a token here


def test_a_beginning_longer_than_the_context_is_no_problem(model, letters):
    found = continuation_nats(model, letters, [("x" * 100, "sat."), ("x" * 100, "ran.")])
    assert np.isfinite(found).all()
    assert found[0, 0] != found[1, 0]


def test_measures_count_what_is_right():
    item = Item("The sky was", ("blue.", "green.", "red.", "white."), 0)
    suite = Suite("colours", "", (item, item))
    knows = Answer(item, (0.1, 0.5, 0.6, 0.7), (0.5, 0.1, 0.6, 0.7), (-0.1, 0, 0, 0), " blue.")
    guesses = Answer(item, (0.5, 0.1, 0.6, 0.7), (0.5, 0.1, 0.6, 0.7), (-0.1, 0, 0, 0), " green.")
    found = {measure.name: measure for measure in measures(suite, [knows, guesses])}
    assert {name: measure.value for name, measure in found.items()} == {
        "colours_accuracy": 0.5,
        "colours_accuracy_per_token": 0,
        "colours_accuracy_by_contrast": 1,
        "colours_told": 0.5,
    }
    assert found["colours_accuracy"].interval == pytest.approx(wilson(0.5, 1))  # the two are of one group
    assert found["colours_accuracy"].reference == 0.25
    json.dumps(knows.to_json())


def test_items_that_share_continuations_are_not_independent():
    """Of groups that are all right or all wrong, the interval is as wide as that of so many groups, not items."""
    texts = ("blue.", "green.", "red.", "white.")
    items = tuple(Item(f"{group} {right}", texts, right, group) for group in range(20) for right in range(4))
    suite = Suite("colours", "", items)
    nats = {number: tuple(float(k != number) for k in range(4)) for number in range(4)}
    said = [nats[one.right if one.group % 2 else (one.right + 1) % 4] for one in items]
    together = [Answer(one, some, some, some, "") for one, some in zip(items, said, strict=True)]
    found = {one.name: one for one in measures(suite, together)}["colours_accuracy"]
    assert found.value == 0.5
    low, high = found.interval
    alone = wilson(10, 20)
    assert high - low == pytest.approx(alone[1] - alone[0], abs=0.06)
    assert high - low > 1.5 * (wilson(40, 80)[1] - wilson(40, 80)[0])


def test_by_contrast_what_is_likely_everywhere_wins_nowhere(model, letters, monkeypatch):
    texts = ("blue.", "green.")
    suite = Suite(
        "colours", "", (Item("The sky was", texts, 0), Item("The grass was", texts, 1), Item("It", texts, 0, 1))
    )
    nats = np.array([[1, 1], [2, 2], [1.5, 1.5], [2, 2], [7, 7], [8, 8]])
    monkeypatch.setattr("storylm.evaluation.answers.continuation_nats", lambda *_: nats)
    answers = ask(model, letters, suite)
    assert [answer.right for answer in answers] == [True, False, True]
    assert [answer.right_by_contrast for answer in answers] == [True, True, True]
    assert answers[1].contrast == (0.25, 0.0)


@pytest.mark.parametrize(
    ("free", "right"),
    [
        (" blue and wide.", True),
        (" very Blue.", True),
        (" blue, not green.", False),
        (" wide. It was blue.", False),
        ("", False),
    ],
)
def test_a_free_continuation_counts_by_its_first_sentence(free, right):
    assert Item("The sky was", ("blue.", "green."), 0).is_told(free) is right


@pytest.mark.parametrize(
    ("continuations", "named", "free", "right"),
    [
        (("in the box.", "on the bed.", "by the door."), (), " in the drawer.", False),
        (("in the box.", "on the bed.", "by the door."), (), " for it in the old box by her side.", True),
        (("under the bed.", "in the box."), (), " under the bed in her room.", True),
        (("an umbrella.", "a blanket."), (), " an apple.", False),
        (("said thank you.", "said sorry."), ("thank thanks", "sorry"), " asked, 'Who are you?'", False),
        (("said thank you.", "said sorry."), ("thank thanks", "sorry"), " said many thanks.", True),
        (("stay at home.", "go to the zoo."), (), " look at it.", False),
        (("put on his shoes.", "washed his hands."), (), " put the cup on the table.", False),
    ],
)
def test_a_free_continuation_is_not_known_by_little_words(continuations, named, free, right):
    assert Item("She", continuations, 0, named=named).is_told(free) is right


def test_an_unknown_suite_is_refused():
    with pytest.raises(UsageError, match="there are facts, reasoning, context"):
        load_suite("sports")


def test_a_model_that_learned_the_answers_has_them_all_right(letters):
    """Trained on the right continuations of four groups; without them it is somewhere about chance."""
    from storylm.config.model import ModelConfig
    from storylm.model.loss import next_token_loss
    from storylm.model.transformer import Transformer

    whole = load_suite("facts")
    items = tuple(item for item in whole.items if item.group in (1, 7))
    suite = Suite("some", "", items)
    config = ModelConfig(family="llama", vocab_size=257, context=160, layers=2, width=48, heads=3)
    network = Transformer(config).initialise(torch.Generator().manual_seed(0))
    texts = [f"{item.beginning} {item.continuations[item.right]}".encode() for item in items]
    tokens = torch.full((len(texts), 160), 256)
    targets = torch.full((len(texts), 160), -100)
    for row, text in enumerate(texts):
        tokens[row, 1 : len(text)] = torch.tensor(list(text[:-1]))
        targets[row, : len(text)] = torch.tensor(list(text))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(120):
        nats, count = next_token_loss(network.hidden(tokens), network.head_weight, targets)
        optimizer.zero_grad()
        (nats / count).backward()
        optimizer.step()
    found = {measure.name: measure.value for measure in measures(suite, ask(network.eval(), letters, suite))}
    assert found == dict.fromkeys(found, 1.0)


def test_a_small_real_model_knows_more_than_nothing(shared):
    """stories260K: by contrast, above chance on what the world is like."""
    from storylm.model.llama2c import read_llama2c
    from storylm.text.tokenizer import Tokenizer

    folder = shared / "reference" / "stories260K"
    network, tokenizer = read_llama2c(folder / "stories260K.bin"), Tokenizer.load(folder / "tok512.model")
    suite = load_suite("facts")
    found = {measure.name: measure for measure in measures(suite, ask(network, tokenizer, suite))}
    assert found["facts_accuracy_by_contrast"].interval[0] > suite.chance

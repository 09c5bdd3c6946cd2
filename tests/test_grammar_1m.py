"""The model that comes with the package, as a golden test: what it tells, what it is worth, who else can load it."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import storylm
from storylm.data.grammar import entropy, information, stories
from storylm.model.folders import BUILT_IN

FOLDER = BUILT_IN / "grammar-1m"
UNSEEN = 7  # a seed that no stories of its training came from

GREEDY = (
    "Once upon a time, there was a small messy boy named Tim. He lived in a tall straw house across from "
    "the library. He loved drawing pictures with his neighbors. He always wore a red leather scarf.\nOne "
    'day, Tim walked to the park to play and heard a strange sound. "Meow! Meow!" Tim looked behind a big '
    'tree and discovered a kitten. The poor thing was very hungry. "Oh dear! Are you hungry?" asked Tim. '
    '"Meow," went the kitten.\nTim shouted for his mom. "We must save the kitten!" said Tim. The two of '
    "them gave it some bread and a bowl of milk. By evening, the kitten could stand up strong and full. "
    '"Can I keep it?" he asked. "Yes, if you take good care of it," said Mom.\nTim named the kitten Spot. '
    "Spot followed him everywhere and made him laugh. Tim lifted his red scarf over the fence and jumped. "
    "From that day on, Tim never forgot that Meow can mean thank you."
)
BITS_PER_BYTE = 0.155182


@pytest.fixture(scope="module")
def model():
    """The model and its tokenizer, by name."""
    return storylm.load("grammar-1m")


def test_it_is_small_and_loads_by_its_name_from_anywhere(model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    again, _ = storylm.load("grammar-1m")
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4_000_000
    assert all(a.equal(b) for a, b in zip(again.parameters(), model[0].parameters(), strict=True))


def test_it_is_the_preset_of_its_name(model) -> None:
    assert model[0].config == storylm.preset("grammar-1m").model


def test_it_tells_its_golden_story(model) -> None:
    assert storylm.generate(*model, "", temperature=0, max_new_tokens=500) == [GREEDY]


def test_its_bits_per_byte_are_golden_and_near_the_entropy(model) -> None:
    unseen = list(stories(UNSEEN, count=60))
    figure = storylm.evaluate(*model, unseen).bits_per_byte
    assert figure == pytest.approx(BITS_PER_BYTE, abs=1e-4)
    floor = sum(map(information, unseen)) / math.log(2) / sum(len(story.encode()) for story in unseen)
    assert floor < figure < 1.15 * floor
    assert floor == pytest.approx(entropy().bits_per_byte, rel=0.1)


def test_transformers_loads_the_folder_as_it_is(model) -> None:
    network, tokenizer = model
    theirs = AutoModelForCausalLM.from_pretrained(FOLDER)
    text = "Once upon a time, there was a little"
    ids = AutoTokenizer.from_pretrained(FOLDER)(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == tokenizer.encode(text)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, network(ids), rtol=0, atol=1e-4)


def test_a_folder_of_the_same_name_comes_first(model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = storylm.Transformer(storylm.preset("story-1m").model.model_copy(update={"layers": 1, "vocab_size": 320}))
    storylm.save(small, None, "grammar-1m")
    assert storylm.load("grammar-1m")[0].config.layers == 1

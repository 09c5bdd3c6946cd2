"""Neurons: their activations by the layer's own formula, the strongest moments by sorting, in every family."""

import pytest
import torch

from evaluation.inside.conftest import STORIES
from storylm.config.errors import UsageError
from storylm.evaluation.inside.neurons import MOMENTS, look_at_neurons, parse_neuron
from storylm.model.feedforward import ACTIVATIONS


@torch.inference_mode()
def activations(model, tokens: list[int], layer: int) -> torch.Tensor:
    """[T, F] from what goes into the layer."""
    heard = []
    ff = model.blocks[layer].ff
    hook = ff.register_forward_pre_hook(lambda part, given: heard.append(given[0]))
    model.eval().hidden(torch.tensor([tokens]))
    hook.remove()
    act = ACTIVATIONS[model.config.activation]
    return (act(ff.up(heard[0])) if ff.gate is None else act(ff.gate(heard[0])) * ff.up(heard[0]))[0]


def test_moments_are_the_strongest_there_are(model, letters):
    layer, number = model.config.layers - 1, 3
    (neuron,) = look_at_neurons(model, letters, STORIES, chosen=[(layer, number)])
    assert neuron.name == f"{model.config.layers}:3"
    every = []
    for story in STORIES:
        values = activations(model, [letters.start_id, *letters.encode(story)], layer)[1:, number].tolist()
        every += [(value, story, place) for place, value in enumerate(values)]
    loudest = sorted((row for row in every if row[0] > 0), reverse=True)[:MOMENTS]
    assert len(neuron.moments) == len(loudest) > 0
    for moment, (value, story, place) in zip(neuron.moments, loudest, strict=True):
        assert moment.activation == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert moment.token == story[place]
        assert moment.before == story[max(0, place - 12) : place]
        assert moment.after == story[place + 1 : place + 5]
    squares = sum(value**2 for value, _, _ in every) / len(every)
    fourths = sum(value**4 for value, _, _ in every) / len(every)
    assert neuron.kurtosis == pytest.approx(fourths / squares**2, rel=1e-3)


def test_what_it_makes_likelier(model, letters):
    """A little more of its output vector in the last stream: the scores that grow most are those of the tokens told."""
    (neuron,) = look_at_neurons(model, letters, STORIES, chosen=[(0, 5)])
    vector = model.blocks[0].ff.down.weight[:, 5].detach() * model.norm.weight.detach()
    scores = (model.head_weight.detach() @ vector)[: letters.vocab_size].tolist()
    likeliest = sorted(range(letters.vocab_size), key=lambda id: -scores[id])[:6]
    assert neuron.promotes == tuple(letters.token_text(id) for id in likeliest)


def test_the_quiet_and_loud_ones_are_chosen(model, letters):
    found = look_at_neurons(model, letters, STORIES, per_layer=2)
    everyone = [(layer, number) for layer in range(model.config.layers) for number in range(model.config.ff_width)]
    all_of_them = look_at_neurons(model, letters, STORIES, chosen=everyone)
    for layer in range(model.config.layers):
        of_layer = [n for n in all_of_them if n.layer == layer]
        loudest = [n.moments[0].activation if n.moments else 0.0 for n in of_layer]
        half = sorted(loudest)[(len(loudest) - 1) // 2]
        loud = [n.kurtosis for n, peak in zip(of_layer, loudest, strict=True) if peak >= half]
        most = sorted(loud, reverse=True)[:2]
        assert [neuron.kurtosis for neuron in found if neuron.layer == layer] == pytest.approx(most)


@pytest.mark.parametrize(("name", "words"), [("2", "LAYER:NUMBER"), ("x:1", "LAYER:NUMBER"), ("99:1", "layers are 1")])
def test_names_of_neurons(name, words, model):
    assert parse_neuron("2:7", model) == (1, 7)
    with pytest.raises(UsageError, match=words):
        parse_neuron(name, model)

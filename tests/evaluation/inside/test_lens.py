"""The logit lens: what a layer would say is what the model without the layers above says."""

import torch

from storylm.evaluation.inside.lens import lens_logits, look_through
from storylm.model.transformer import Transformer

TEXT = "Tom had a big red ball."


def cut(model: Transformer, layers: int) -> Transformer:
    """The model without the layers above."""
    shorter = Transformer(model.config.model_copy(update={"layers": layers})).eval()
    kept = {name: value for name, value in model.state_dict().items() if name in shorter.state_dict()}
    shorter.load_state_dict(kept)
    return shorter


def test_each_layer_says_what_a_model_that_ends_there_says(model, letters):
    tokens = [letters.start_id, *letters.encode(TEXT)]
    logits = lens_logits(model.train(), tokens)
    assert model.training
    model.eval()
    with torch.inference_mode():
        for layers in range(1, model.config.layers + 1):
            torch.testing.assert_close(logits[layers], cut(model, layers)(torch.tensor([tokens]))[0], rtol=0, atol=1e-4)
        at_the_start = model.positions.add(model.embedding(torch.tensor(tokens))[None], torch.arange(len(tokens))[None])
        torch.testing.assert_close(logits[0], (model.norm(at_the_start) @ model.head_weight.T)[0], rtol=0, atol=1e-4)


def test_guesses_and_where_the_last_one_leads(model, letters):
    lens = look_through(model, letters, TEXT)
    tokens = [letters.start_id, *letters.encode(TEXT)]
    chances = lens_logits(model, tokens)[..., : letters.vocab_size].softmax(-1)
    assert lens.tokens == (letters.end, *TEXT)
    for place in range(len(tokens)):
        likeliest = [int(row[place].argmax()) for row in chances]
        for layer, token in enumerate(likeliest):
            guess = lens.guesses[layer][place]
            assert guess.token == letters.token_text(token)
            assert abs(guess.probability - float(chances[layer, place, token])) < 1e-6
        assert lens.leads[place] == likeliest.index(likeliest[-1])
        steady = max(layer for layer in range(len(likeliest)) if layer == 0 or likeliest[layer - 1] != likeliest[-1])
        assert lens.steady[place] == steady
    assert len(look_through(model, letters, TEXT, longest=5).tokens) == 5

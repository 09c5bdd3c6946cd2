"""What the neurons of the feed-forward layers wait for: the tokens of stories at which each is most active.

A neuron is one feature inside a block's feed-forward layer, after the activation and the gate. As Eldan and Li (2023)
did for their models of stories, it is read by the tokens that excite it most, each in its context. Which neurons are
worth a look? Those that are quiet nearly always and loud at few tokens: of high kurtosis, E[x^4] / E[x^2]^2 over the
tokens of all stories (3 for a normal distribution that has mean 0), among the half of their layer that gets loudest.
What one does is said beside it: the tokens that its output vector, through the head, makes likelier.
"""

# L layers, F neurons of a layer, T tokens of a text, M moments kept, V vocabulary, D width

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.evaluation.inside.reading import inputs_of, read_all, token_texts
from storylm.model.feedforward import FeedForward
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

MOMENTS = 8
BEFORE, AFTER = 12, 4  # tokens of context


@dataclass(frozen=True)
class Moment:
    """A token that excited a neuron, with some of the story around it."""

    activation: float
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class Neuron:
    """A neuron of a layer (both counted from 0), its strongest moments, and the tokens it makes likelier."""

    layer: int
    number: int
    kurtosis: float
    moments: tuple[Moment, ...]
    promotes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Layer counted from 1, and number: "2:117"."""
        return f"{self.layer + 1}:{self.number}"


def parse_neuron(text: str, model: Transformer) -> tuple[int, int]:
    """The layer and number, from 0, that LAYER:NUMBER names; layers count from 1 there, as people say them.

    Raises:
        UsageError: it is no such name, or the model has no such neuron.
    """
    layer, colon, number = text.partition(":")
    config = model.config
    if not (colon and layer.isdecimal() and number.isdecimal()):
        raise UsageError(f"neuron {text!r} is not a LAYER:NUMBER, as in 2:117")
    if not (1 <= int(layer) <= config.layers and int(number) < config.ff_width):
        raise UsageError(
            f"there is no neuron {text}: layers are 1 to {config.layers}, neurons 0 to {config.ff_width - 1}"
        )
    return int(layer) - 1, int(number)


@torch.inference_mode()
def look_at_neurons(
    model: Transformer,
    tokenizer: Tokenizer,
    stories: Sequence[str],
    chosen: Sequence[tuple[int, int]] = (),
    per_layer: int = 2,
    progress: Callable[[int], None] = lambda story: None,
) -> list[Neuron]:
    """The `chosen` neurons (layer, number), or else `per_layer` of each layer, see above.

    Of a story the first 256 tokens are read; the start token does not count.
    """
    texts = read_all(model, tokenizer, stories)
    layers = [_Layer(model.config.ff_width) for _ in model.blocks]
    downs = [part.down for part in model.modules() if isinstance(part, FeedForward)]
    with inputs_of(model, downs, lambda layer, h_BTF: layers[layer].hear(h_BTF[0, 1:].float().cpu())):
        for number, tokens in enumerate(texts, 1):
            model.hidden(torch.tensor([tokens], device=model.device))
            progress(number)
    best = [(layer, number) for layer, of in enumerate(layers) for number in of.choose(per_layer)]
    places = [(story, place) for story, tokens in enumerate(texts) for place in range(1, len(tokens))]
    found = []
    for layer, number in chosen or best:
        of = layers[layer]
        heard = zip(of.values_FM[number].tolist(), of.places_FM[number].tolist(), strict=True)
        moments = [_moment(value, *places[int(at)], texts, tokenizer) for value, at in heard if value > 0]
        promotes = _promoted(model, downs[layer].weight[:, number], tokenizer)
        found.append(Neuron(layer, number, float(of.kurtosis[number]), tuple(moments), promotes))
    return found


class _Layer:
    """What is kept of the neurons of one layer while stories are read: sums of powers, and the strongest moments."""

    def __init__(self, width: int):
        self.squares_F, self.fourths_F = torch.zeros(2, width, dtype=torch.float64)
        self.tokens = 0
        self.values_FM, self.places_FM = torch.zeros(width, 0), torch.zeros(width, 0, dtype=torch.long)

    def hear(self, h_TF: Tensor) -> None:
        here_FT = torch.arange(self.tokens, self.tokens + len(h_TF)).expand(h_TF.shape[1], -1)
        values, places = torch.cat([self.values_FM, h_TF.T], 1), torch.cat([self.places_FM, here_FT], 1)
        self.values_FM, order = values.topk(min(MOMENTS, values.shape[1]))
        self.places_FM = places.gather(1, order)
        self.squares_F += h_TF.double().square().sum(0)
        self.fourths_F += h_TF.double().pow(4).sum(0)
        self.tokens += len(h_TF)

    def choose(self, count: int) -> list[int]:
        """The neurons of highest kurtosis, of those that get as loud as half of all, at least."""
        loudest_F = self.values_FM[:, 0]
        return self.kurtosis.where(loudest_F >= loudest_F.median(), 0.0).topk(count).indices.tolist()

    @property
    def kurtosis(self) -> Tensor:
        """[F]; 0 for a neuron that was never active."""
        return (self.fourths_F * self.tokens / self.squares_F.square()).nan_to_num(0.0)


def _moment(value: float, story: int, place: int, texts: list[list[int]], tokenizer: Tokenizer) -> Moment:
    around = token_texts(tokenizer, texts[story][max(1, place - BEFORE) : place + AFTER + 1])
    at = min(place - 1, BEFORE)
    return Moment(value, "".join(around[:at]), around[at], "".join(around[at + 1 :]))


def _promoted(model: Transformer, out_D: Tensor, tokenizer: Tokenizer, count: int = 6) -> tuple[str, ...]:
    """The tokens whose scores grow most with the neuron, the last norm's gain included."""
    gain_D = getattr(model.norm, "weight", torch.ones_like(out_D))
    scores_V = (model.head_weight @ (out_D * gain_D))[: tokenizer.vocab_size]  # some tables are padded
    return tuple(token_texts(tokenizer, scores_V.topk(min(count, len(scores_V))).indices.tolist()))

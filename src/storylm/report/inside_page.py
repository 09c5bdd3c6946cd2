"""The page of `storylm inspect`: heads by what they look at, their maps, the lens, and what excites neurons."""

# L layers, H heads, T tokens

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from storylm.evaluation.inside.heads import Head
from storylm.evaluation.inside.lens import Guess, Lens
from storylm.evaluation.inside.neurons import Neuron
from storylm.report.html import Html, element, joined, page, section, table
from storylm.report.maps import attention_svg

KINDS = {
    "distance": ("var(--c0)", "look at a distance"),
    "semantic": ("var(--c1)", "look for a meaning"),
    "resting": ("var(--c6)", "rest on the start token"),
}


@dataclass(frozen=True)
class Inside:
    """What was found inside a model. `maps` [L, H, T, T] are of the lens's tokens, the first of `text`; `heads` and
    `neurons` of `stories` stories of `data`. The first `prompt_tokens` were given, the rest the model told."""

    model: str
    parameters: int
    data: str
    stories: int
    text: str
    prompt_tokens: int
    lens: Lens
    maps: Tensor
    heads: Sequence[Head]
    neurons: Sequence[Neuron]


def inside_page(found: Inside) -> str:
    """One self-contained page."""
    layers, heads = found.maps.shape[:2]
    counts = Counter(head.kind for head in found.heads)
    kinds = ", ".join(f"{counts[kind]} {words}" for kind, (_, words) in KINDS.items() if counts[kind])
    lead = f"{found.parameters:,} parameters, {layers} layers of {heads} heads. Of {len(found.heads)} heads {kinds}."
    sections = [_heads(found), _maps(found), _lens(found.lens, found.prompt_tokens), _neurons(found)]
    return page(f"Inside {found.model}", lead, *sections, script=True)


def _heads(found: Inside) -> Html:
    about = (
        f"Over {found.stories:,} stories of {found.data}: how much of a head's attention is where distance alone would "
        "put it. Near 1, a head looks so many tokens back whatever stands there; near 0, it looks for tokens of a "
        "meaning wherever they are. Heads that give half of their attention to the start token are at rest. "
        "Names are layer.head."
    )
    keys = [
        element("span", element("span", class_="key", style=f"background:{of[0]}"), f"{of[1]}  ")
        for of in KINDS.values()
    ]
    rows = [
        (
            joined([element("span", class_="key", style=f"background:{KINDS[head.kind][0]}"), head.name]),
            _bar(head.by_distance, KINDS[head.kind][0]),
            f"{head.by_distance:.2f}",
            f"{head.on_start:.2f}",
            f"{head.mean_distance:.1f}",
        )
        for head in found.heads
    ]
    names = ("head", "by distance", "", "on the start", "tokens back, mean")
    return section(
        "What heads look at", about, element("p", *keys, class_="soft"), table(names, rows, numbers=(2, 3, 4))
    )


def _bar(share: float, colour: str) -> Html:
    bar = element("rect", width=f"{100 * share:.1f}", height=8, fill=colour)
    rest = element("rect", width=100, height=8, fill="var(--shade)")
    return element("svg", rest, bar, viewBox="0 0 100 8", width=160, height=13, aria_hidden="true")


def _maps(found: Inside) -> Html:
    about = (
        "Every row is a token, every column one that it may look at; the darker, the more attention. Heads that go by "
        "distance come first: stripes along the diagonal. Columns are tokens that many look at, such as names."
    )
    figures = []
    for head in found.heads:
        name = f"{head.name}  {head.kind} {head.by_distance:.2f}"
        picture = attention_svg(found.maps[head.layer, head.head].tolist(), f"attention of head {head.name}")
        figures.append(element("figure", picture, element("figcaption", name)))
    text = [token.strip() or token for token in found.lens.tokens]
    said = element("blockquote", found.text)
    return section(
        "Where attention goes", about, said, element("div", *figures, class_="maps", data_tokens=json.dumps(text))
    )


def _lens(lens: Lens, given: int) -> Html:
    last = len(lens.guesses) - 1
    mean = sum(lens.steady) / len(lens.steady)
    about = (
        "What the model would say next if it ended after a layer (its stream through the last norm and the head), and "
        "how sure it would be. Framed: where the final guess first leads. It leads for good from layer "
        f"{mean:.1f} of {last} on average. Layer 0 is the embedding alone."
    )
    rows = []
    for place, token in enumerate(lens.tokens):
        cells = [element("td", _shown(token), style=None if place < given else "font-style:italic")]
        cells += [_guess(row[place], layer == lens.leads[place]) for layer, row in enumerate(lens.guesses)]
        rows.append(element("tr", *cells))
    names = element("tr", element("th", "after"), *(element("th", f"layer {layer}") for layer in range(last + 1)))
    body = element("table", element("thead", names), element("tbody", *rows), class_="lens")
    note = "" if given >= len(lens.tokens) else "In italics: what the model told itself, always by the likeliest token."
    return section("Layer by layer", about, element("div", body, class_="scroll"), element("p", note, class_="soft"))


def _guess(guess: Guess, leads: bool) -> Html:
    shade = f"background:color-mix(in srgb, var(--c0) {round(70 * guess.probability)}%, transparent)"
    return element(
        "td",
        _shown(guess.token),
        style=shade,
        class_="leads" if leads else None,
        title=f"{guess.probability:.1%}",
    )


def _neurons(found: Inside) -> Html:
    about = (
        f"The tokens of {found.stories:,} stories at which some neurons are most active, each in its context. Unless "
        "asked for, these are the neurons of each layer that are quiet nearly always and loud at few tokens. Named "
        "layer:number."
    )
    return section("What neurons wait for", about, *(_neuron(neuron) for neuron in found.neurons))


def _neuron(neuron: Neuron) -> Html:
    moments = [
        element(
            "li",
            element("span", f"{moment.activation:6.2f}  ", class_="soft"),
            _line(moment.before),
            element("mark", _shown(moment.token)),
            _line(moment.after),
        )
        for moment in neuron.moments
    ]
    pushes = ", ".join(f"“{_shown(token)}”" for token in neuron.promotes)
    about = f"Kurtosis {neuron.kurtosis:,.0f}. Makes likelier: {pushes}."
    return element(
        "div",
        element("h3", f"Neuron {neuron.name}"),
        element("p", about, class_="soft"),
        element("ul", *moments, class_="moments"),
    )


def _line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", "↵ ")


def _shown(token: str) -> str:
    """A token in a cell: line ends as a sign; the space before a word left as it is."""
    return token.replace("\r", "␍").replace("\n", "↵").replace("\t", "⇥")

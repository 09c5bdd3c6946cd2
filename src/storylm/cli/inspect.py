"""`storylm inspect`: a page about what is inside a model."""

from pathlib import Path
from typing import Annotated

import typer

from storylm.cli import options

BUILT_IN = "grammar?validation=200"


def inspect(
    model: str = typer.Argument(help=options.MODEL_HELP),
    prompt: str = typer.Option("Once upon a time", "--prompt", "-p", help="The text that is looked at."),
    data: str = typer.Option(
        None,
        help="Stories to look at heads and neurons over: a source as in `storylm evaluate` (default: built-in ones).",
    ),
    split: options.SplitName = None,
    max_stories: options.MaxStories = 50,
    max_new_tokens: Annotated[
        int, typer.Option(min=0, help="The model goes on with the prompt for so many tokens.")
    ] = 24,
    neuron: Annotated[
        list[str] | None, typer.Option(metavar="LAYER:NUMBER", help="A neuron to look at; may be repeated.")
    ] = None,
    out: Path = typer.Option(Path("inside.html"), help="The page to write."),
    tokenizer: options.OtherTokenizer = None,
    device: options.Device = "auto",
) -> None:
    """Write a page about what is inside a model: attention heads, neurons, and what each layer would say.

    Needs nothing but the page itself to be read: no network, no program.
    """
    from storylm.cli.counting import counting
    from storylm.config.files import expanded, write_text
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.inside import heads, lens, neurons
    from storylm.generation.attention_maps import attention_maps
    from storylm.generation.engine import tell
    from storylm.generation.sampling import Sampling
    from storylm.report.inside_page import Inside, inside_page

    out = expanded(out)
    options.check_output(out, ".html", ".htm", option="--out")
    stories = list(Corpus(data or BUILT_IN, split, max_stories))
    network, words = options.load_model(model, tokenizer, device)
    chosen = [neurons.parse_neuron(name, network) for name in neuron or ()]
    text = prompt
    with counting("telling") as live:
        if max_new_tokens:
            greedy = Sampling(temperature=0)
            (story,) = tell(network, words, [prompt], greedy, max_new_tokens=max_new_tokens, truncate="left")
            text = story.text
        seen = lens.look_through(network, words, text)
        ids = [words.start_id, *words.encode(text)][: len(seen.tokens)]
        found = Inside(
            model=model,
            parameters=sum(weights.numel() for weights in network.parameters()),
            data=data or "the built-in kind",
            stories=len(stories),
            text=text,
            prompt_tokens=1 + len(words.encode(prompt)),
            lens=seen,
            maps=attention_maps(network, ids).cpu(),
            heads=heads.look_at_heads(network, words, stories, lambda done: live("heads", done, 2 * len(stories))),
            neurons=neurons.look_at_neurons(
                network,
                words,
                stories,
                chosen,
                progress=lambda done: live("neurons", done, len(stories)),
            ),
        )
    write_text(out, inside_page(found))
    first, last = found.heads[0], found.heads[-1]
    print(
        f"{out}: {len(found.heads)} heads, by distance from {first.by_distance:.2f} ({first.name}) to "
        f"{last.by_distance:.2f} ({last.name}); {len(found.neurons)} neurons"
    )

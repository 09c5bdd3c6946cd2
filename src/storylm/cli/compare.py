"""`storylm compare`: the same story told by several models."""

import time
from typing import TYPE_CHECKING

import typer

from storylm.cli import options
from storylm.cli.stories import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMN = 36  # the narrowest column in which a story is pleasant to read


def compare(
    models: list[str] = typer.Argument(help="Model folders, run folders or Hub ids."),
    prompt: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    data: str = typer.Option(None, help="Judge each model by these stories too: a source as in `storylm evaluate`."),
    split: options.SplitName = None,
    max_stories: options.MaxStories = None,
    max_new_tokens: options.MaxNewTokens = 256,
    temperature: options.Temperature = 0.8,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = 0,
    stop: options.Stop = None,
    truncate: options.Truncate = None,
    tokenizer: options.OtherTokenizer = None,
    device: options.Device = "auto",
) -> None:
    """Let several models tell the same stories side by side, with size, speed and, given data, bits per byte."""
    from rich.console import Console

    from storylm.cli.judging import judge
    from storylm.evaluation.corpus import Corpus
    from storylm.generation.engine import tell
    from storylm.generation.sampling import Sampling

    prompts = options.read_prompts(prompt, prompts_file)
    sampling = Sampling(repetition_penalty, temperature, top_k or None, top_p, min_p)
    corpus = None if data is None else Corpus(data, split, max_stories)
    told: list[list[str]] = []
    facts: list[str] = []
    for name in models:
        network, words = options.load_model(name, tokenizer, device)
        began = time.perf_counter()
        stories = tell(
            network,
            words,
            prompts,
            sampling,
            max_new_tokens=max_new_tokens,
            seed=seed,
            stop=stop or (),
            batch_size=1,  # so that the speed is that of one reader's wait, for every model alike
            truncate=truncate,  # type: ignore[arg-type]  # checked there
        )
        seconds = time.perf_counter() - began
        told.append([story.text for story in stories])
        tokens = sum(story.tokens for story in stories)
        lines = [f"{sum(p.numel() for p in network.parameters()):,} parameters", f"{tokens / seconds:,.0f} tokens/s"]
        if corpus is not None:
            lines.insert(0, f"{judge(network, words, corpus, title=name).bits_per_byte:.4f} bits per byte")
        facts.append("\n".join(lines))
    console = Console(highlight=False)
    show = _side_by_side if console.width >= COLUMN * len(models) else _one_after_another
    console.print(show(models, told, facts))


def _side_by_side(models: list[str], told: list[list[str]], facts: list[str]) -> "RenderableType":
    """A column for each model; a row for each prompt, and one for the facts."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table
    from rich.text import Text

    columns = (Column(Text(name), ratio=1) for name in models)  # all as wide
    table = Table(*columns, box=SIMPLE_HEAD, expand=True, show_lines=True)
    for stories in zip(*told, strict=True):
        table.add_row(*(Text(printable(story)) for story in stories))
    table.add_row(*(Text(lines, style="dim") for lines in facts))
    return table


def _one_after_another(models: list[str], told: list[list[str]], facts: list[str]) -> "RenderableType":
    """For a terminal too narrow for columns."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.text import Text

    parts: list[RenderableType] = []
    for name, stories, lines in zip(models, told, facts, strict=True):
        parts += [Rule(Text(name)), *(Text(printable(story) + "\n") for story in stories), Text(lines, style="dim")]
    return Group(*parts)

"""`storylm compare`: the same story told by several models."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.evaluation.measure import Measure
    from storylm.evaluation.per_story import PerStory


def compare(
    models: list[str] = typer.Argument(help="Model folders, run folders or Hub ids."),
    prompt: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    data: str = typer.Option(None, help="Judge each model by these stories too: a source as in `storylm evaluate`."),
    split: options.SplitName = None,
    max_stories: options.MaxStories = None,
    stride: int = typer.Option(
        None, help="Score stories longer than a context to their end, in windows that move by so many tokens."
    ),
    per_story: bool = typer.Option(False, "--per-story", help="Figures of every story too, in the JSON file."),
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
    output: Path = typer.Option(None, help="Write stories, figures and comparisons to this JSON file too."),
) -> None:
    """Let several models tell the same stories side by side, with size, speed and, given data, bits per byte.

    The models are then compared on the same stories: the difference of each to the first, its 95 % interval over
    stories and the probability of one so large by chance.
    """
    from rich.console import Console

    from storylm.cli.judging import judge_in_full
    from storylm.cli.pairing import check_comparable, paired_lines
    from storylm.cli.side_by_side import side_by_side
    from storylm.config.errors import UsageError
    from storylm.config.files import write_text
    from storylm.evaluation.corpus import Corpus
    from storylm.generation.engine import tell
    from storylm.generation.sampling import Sampling

    options.check_output(output)
    if data is None and (stride or per_story):
        raise UsageError("--stride and --per-story are about --data, which is missing")
    if per_story and output is None:
        raise UsageError("--per-story goes into the JSON file: say --output FILE too")
    prompts = options.read_prompts(prompt, prompts_file)
    sampling = Sampling(repetition_penalty, temperature, top_k or None, top_p, min_p)
    corpus = None if data is None else Corpus(data, split, max_stories)
    if corpus is not None and len(models) > 1:
        check_comparable(models, tokenizer, device, corpus, stride)
    told: list[list[str]] = []
    facts: list[str] = []
    rows: list[dict[str, Any]] = []
    judged: list[PerStory] = []
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
        size = sum(p.numel() for p in network.parameters())
        lines = [f"{size:,} parameters", f"{tokens / seconds:,.0f} tokens/s"]
        row = {"model": name, "parameters": size, "tokens_per_second": tokens / seconds, "stories": told[-1]}
        if corpus is not None:
            likelihood, kept, _ = judge_in_full(network, words, corpus, stride=stride, title=name)
            measures = kept.measures(likelihood, seed)
            lines[:0] = [f"{likelihood.bits_per_byte:.4f} bits per byte", *_sure(measures[0])]
            row["metrics"] = [measure.to_json() for measure in measures]
            if corpus.split == "all":
                row["splits"] = kept.by_split(corpus.counted, seed)
            if per_story:
                row["per_story"] = kept.to_json()
            judged.append(kept)
        facts.append("\n".join(lines))
        rows.append(row)
    comparisons = paired_lines(models, judged, seed)
    if output is not None:
        found = {
            "prompts": prompts,
            "data": data,
            "stride": stride,
            "models": rows,
            "comparisons": [one for one, _ in comparisons],
        }
        write_text(output, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    console = Console(highlight=False)
    console.print(side_by_side(models, told, facts, console.width))
    for _, line in comparisons:
        console.print(line)


def _sure(measure: "Measure") -> list[str]:
    return [] if measure.interval is None else ["95 %: {:.4f} to {:.4f}".format(*measure.interval)]

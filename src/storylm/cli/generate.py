"""`storylm generate`: tell stories."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from storylm.cli import options
from storylm.cli.options import also


def generate(
    model: str = typer.Argument(help=options.MODEL_HELP),
    prompt: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    words: str = typer.Option(None, help="Order a story with these words, with commas between, of a model trained so."),
    features: str = typer.Option(None, help="Order features: Dialogue, MoralValue, Twist, BadEnding, Conflict, ..."),
    summary: str = typer.Option(None, help="Order a story that this sums up."),
    sentence: str = typer.Option(None, help="Order a story that has this sentence."),
    max_new_tokens: options.MaxNewTokens = 256,
    temperature: options.Temperature = 0.8,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = 0,
    samples: Annotated[int, typer.Option("--samples", "-n", help="Stories for each prompt: seeds SEED, SEED+1...")] = 1,
    stop: options.Stop = None,
    stream: bool = typer.Option(False, "--stream", help="Print each story as it is told, one after another."),
    truncate: options.Truncate = None,
    batch_size: int = typer.Option(32, help="Stories told at once; it changes the time, not the stories."),
    tokenizer: options.OtherTokenizer = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    output: Path = typer.Option(None, help="Write the stories to this .json, .jsonl or .txt file too."),
    _max: Annotated[
        int | None, also("max_new_tokens", "--max_tokens", "--max-tokens", "--max_new_tokens", "--max_length")
    ] = None,
    _top_k: Annotated[int | None, also("top_k", "--top_k")] = None,
    _top_p: Annotated[float | None, also("top_p", "--top_p")] = None,
    _min_p: Annotated[float | None, also("min_p", "--min_p")] = None,
    _penalty: Annotated[float | None, also("repetition_penalty", "--repetition_penalty")] = None,
    _samples: Annotated[int | None, also("samples", "--num_samples", "--num-samples", "--num_return_sequences")] = None,
) -> None:
    """Tell stories that begin with a prompt; without one, the model begins them itself.

    Stories go to standard output and nothing else does; in a pipe, a line of <|endoftext|> stands between two.
    """
    from storylm.cli.stories import FILES, StoryPrinter, write_stories
    from storylm.generation.engine import tell
    from storylm.generation.sampling import Sampling

    options.check_output(output, *FILES)
    order = options.read_order(words, features, summary, sentence, prompt or prompts_file)
    prompts = [order] if order else options.read_prompts(prompt, prompts_file)
    sampling = Sampling(repetition_penalty, temperature, top_k or None, top_p, min_p)
    network, own_tokenizer = options.load_model(model, tokenizer, device)
    printer = StoryPrinter([prompt for prompt in prompts for _ in range(samples)])
    began = time.perf_counter()
    stories = tell(
        network,
        own_tokenizer,
        prompts,
        sampling,
        max_new_tokens=max_new_tokens,
        seed=seed,
        samples=samples,
        stop=stop or (),
        batch_size=1 if stream else batch_size,
        precision=precision,
        truncate=truncate,  # type: ignore[arg-type]  # checked there
        on_text=printer.add if stream else None,
    )
    seconds = time.perf_counter() - began
    if not stream:
        for number, story in enumerate(stories):
            printer.add(number, story.told)
    printer.finish()
    if output is not None:
        settings = {**vars(sampling), "max_new_tokens": max_new_tokens, "stop": stop or []}
        write_stories(output, stories, {"model": model, "settings": settings})
    tokens = sum(story.tokens for story in stories)
    print(f"{tokens:,} tokens in {seconds:.2f} s, {tokens / seconds:,.0f} tokens/s", file=sys.stderr)

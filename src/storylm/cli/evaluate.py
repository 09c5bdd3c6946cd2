"""`storylm evaluate`: how well a model predicts stories, what it knows, and how good the stories are that it tells."""

from pathlib import Path

import typer

from storylm.cli import options


def evaluate(
    model: str = typer.Argument(help=options.MODEL_HELP),
    data: str | None = typer.Argument(
        None, help="Stories: a named corpus, a Hub dataset, a file, a folder or a prepared folder."
    ),
    split: options.SplitName = None,
    batch_size: int = typer.Option(16, help="Rows of the model's context scored at once; it does not change figures."),
    max_stories: options.MaxStories = None,
    stride: int = typer.Option(
        None, help="Score stories longer than the context to their end, in windows that move by so many tokens."
    ),
    details: bool = typer.Option(False, "--details", help="Bits per byte of parts of stories too, and calibration."),
    per_story: bool = typer.Option(False, "--per-story", help="Figures of every story too, in the JSON."),
    suites: str = typer.Option(
        None,
        metavar="NAMES",
        help="Ask prompt suites: facts, reasoning, context, instruct, with commas between, or all.",
    ),
    harness: str = typer.Option(
        None,
        metavar="TASKS",
        help="Ask zero-shot tasks of lm-eval, as blimp,lambada_openai, or those of .yaml files.",
    ),
    harness_limit: int = typer.Option(None, min=1, help="Of each such task, only the first so many questions."),
    stories: str = typer.Option(
        None,
        metavar="N|FILE",
        help="Judge stories: N that the model tells from beginnings of DATA, or those of a .txt or .jsonl file.",
    ),
    train: str = typer.Option(None, help="The training stories: what of the told ones is copied from there?"),
    eyes: str = typer.Option(
        None, metavar="MODEL", help="See the told stories with the eyes of this model, the same for all: MAUVE."
    ),
    max_new_tokens: options.MaxNewTokens = 256,
    temperature: options.Temperature = 0.8,
    seed: options.Seed = 0,
    tokenizer: options.OtherTokenizer = None,
    device: options.Device = "auto",
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
    output: Path = typer.Option(None, help="Write the figures to this JSON file too."),
) -> None:
    """Judge a model: bits per byte on stories as they are, prompt suites, stories that it tells, zero-shot tasks."""
    from rich.console import Console

    from storylm.cli.findings import Findings
    from storylm.cli.stories_to_judge import plan
    from storylm.cli.zero_shot import zero_shot_tasks
    from storylm.config.errors import UsageError
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.telling import Manner
    from storylm.model.fingerprint import fingerprint

    options.check_output(output)
    if data is None and suites is None and stories is None and harness is None:
        raise UsageError(
            "say what to judge by: stories, as `storylm evaluate MODEL stories.txt`, --suites, --stories or --harness"
        )
    if data is None and (details or per_story or stride or split or max_stories):
        raise UsageError("--details, --per-story, --stride, --split and --max-stories are about DATA, which is missing")
    if per_story and output is None and not as_json:
        raise UsageError("--per-story goes into the JSON: say --output FILE or --json too")
    if stories is None and (train or eyes):
        raise UsageError("--train and --eyes are about stories that are told: say --stories N or --stories FILE too")
    if harness is None and harness_limit is not None:
        raise UsageError("--harness-limit is about tasks: say --harness TASKS too")
    names = options.read_suites(suites)
    tasks = None if harness is None else zero_shot_tasks(harness)
    asked_for = None if stories is None else plan(stories, train, split, data)
    corpus = None if data is None else Corpus(data, split, max_stories)
    network, words = options.load_model(model, tokenizer, device)
    seeing = None if eyes is None else options.load_model(eyes, None, device)
    about = {
        "model": model,
        "weights": fingerprint(network),
        "tokenizer": words.name,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
    }
    found = Findings(network, words, about, output)
    if corpus is not None:
        found.predicting(corpus, batch_size, stride, seed, details=details, per_story=per_story)
    for name in names:
        found.asking(name, seed, max_new_tokens)
    if asked_for is not None:
        manner = Manner(temperature, max_new_tokens, seed)
        file = None if asked_for.given is None else stories
        found.telling(asked_for, manner, seeing, file=file, train=train, eyes=eyes)
    if tasks is not None:
        found.answering(tasks, harness_limit, batch_size)
    if as_json:
        print(found.to_json(), end="")
        return
    console = Console(highlight=False)
    for part in found.shown:
        console.print(part)

"""`storylm evaluate`: how well a model predicts stories, what it knows, and how good the stories are that it tells."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.measure import Measure


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
    judge: str = typer.Option(None, metavar="MODEL", help="The model whose eyes MAUVE sees with; by default MODEL."),
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

    from storylm.cli import tables
    from storylm.cli.counting import counting
    from storylm.cli.judging import judge_in_full
    from storylm.cli.stories_to_judge import plan
    from storylm.cli.zero_shot import ask_tasks, zero_shot_tasks
    from storylm.config.errors import UsageError
    from storylm.config.files import write_text
    from storylm.evaluation.asking import ask_suite
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.likelihood import CONVENTION
    from storylm.evaluation.telling import Manner
    from storylm.evaluation.told import judge_told
    from storylm.model.fingerprint import fingerprint

    options.check_output(output)
    if data is None and suites is None and stories is None and harness is None:
        raise UsageError(
            "say what to judge by: stories, as `storylm evaluate MODEL stories.txt`, --suites, --stories or --harness"
        )
    if data is None and (details or stride or split or max_stories):
        raise UsageError("--details, --stride, --split and --max-stories are about DATA, which is missing")
    if stories is None and (train or judge):
        raise UsageError("--train and --judge are about stories that are told: say --stories N or --stories FILE too")
    if harness is None and harness_limit is not None:
        raise UsageError("--harness-limit is about tasks: say --harness TASKS too")
    names = options.read_suites(suites)
    tasks = None if harness is None else zero_shot_tasks(harness)
    asked_for = None if stories is None else plan(stories, train, split, data)
    corpus = None if data is None else Corpus(data, split, max_stories)
    network, words = options.load_model(model, tokenizer, device)
    found: dict[str, Any] = {"model": model, "weights": fingerprint(network), "tokenizer": words.name}
    measures: list[Measure] = []
    shown: list[Any] = []
    if corpus is not None:
        likelihood, per_story, breakdown = judge_in_full(network, words, corpus, batch_size, stride, details=details)
        found |= _about(data, corpus) | {"convention": CONVENTION} | likelihood.to_json()
        measures += per_story.measures(likelihood, seed)
        shown += tables.of_likelihood(likelihood, measures, CONVENTION)
        if breakdown is not None:
            found["details"] = breakdown.to_json()
            shown += tables.of_details(breakdown)
    for name in names:
        with counting(f"asking {name}"):
            asked, answers = ask_suite(network, words, name, seed, max_new_tokens)
        found.setdefault("suites", {})[name] = answers
        measures += asked
        shown.append(tables.of_measures(name, asked, reference="chance"))
    if asked_for is not None:
        judges = (network, words) if judge is None else options.load_model(judge, None, device)
        with counting("stories") as live:
            judged, told = judge_told(
                network, words, asked_for, Manner(temperature, max_new_tokens, seed), judges, live
            )
        found["stories"] = [story.to_json() for story in told]
        measures += judged
        shown.append(tables.of_measures("stories", judged, reference="real stories"))
    if tasks is not None:
        answered = ask_tasks(tasks, network, words, harness_limit, batch_size)
        found["harness"] = {"limit": harness_limit, **answered.to_json()}
        measures += answered.measures
        if answered.measures:
            shown.append(tables.of_measures("zero-shot", answered.measures, reference="chance"))
    found["metrics"] = [measure.to_json() for measure in measures]
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if output is not None:  # first of all: who reads what is printed may be gone, as in `| head -3`
        write_text(output, text)
    if as_json:
        print(text, end="")
        return
    console = Console(highlight=False)
    for part in shown:
        console.print(part)


def _about(data: str | None, corpus: "Corpus") -> dict[str, Any]:
    return {
        "data": data,
        "split": corpus.split,
        "unreadable": dict(corpus.unreadable),
        "repaired": dict(corpus.repaired),
    }

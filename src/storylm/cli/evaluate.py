"""`storylm evaluate`: how well a model predicts stories, what it knows, and how good the stories are that it tells."""

import json
import sys
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
    from rich.text import Text

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
    found: dict[str, Any] = {
        "model": model,
        "weights": fingerprint(network),
        "tokenizer": words.name,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
    }
    measures: list[Measure] = []
    shown: list[Any] = []

    def save() -> str:
        """After each part, so that what is computed is not lost, whatever becomes of the next."""
        found["metrics"] = [measure.to_json() for measure in measures]
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        if output is not None:
            write_text(output, text)
        return text

    if corpus is not None:
        likelihood, kept, breakdown = judge_in_full(network, words, corpus, batch_size, stride, details=details)
        found |= _about(data, corpus) | {"convention": CONVENTION} | likelihood.to_json()
        measures += kept.measures(likelihood, seed)
        shown += tables.of_likelihood(likelihood, measures, CONVENTION)
        if corpus.split == "all":
            found["splits"] = kept.by_split(corpus.counted, seed)
            shown += tables.of_splits(found["splits"])
        if per_story:
            found["per_story"] = kept.to_json()
        if breakdown is not None:
            found["details"] = breakdown.to_json()
            shown += tables.of_details(breakdown)
        save()
    for name in names:
        with counting(f"asking {name}"):
            asked, answers = ask_suite(network, words, name, seed, max_new_tokens)
        found.setdefault("suites", {})[name] = answers
        measures += asked
        shown.append(tables.of_measures(name, asked, reference="chance"))
        save()
    if asked_for is not None:
        manner = Manner(temperature, max_new_tokens, seed)
        with counting("stories") as live:
            judged, told = judge_told(network, words, asked_for, manner, seeing, live, _say)
        found["told"] = [story.to_json() for story in told]
        found["telling"] = {
            "count": asked_for.count,
            "file": None if asked_for.given is None else stories,
            "temperature": temperature if asked_for.given is None else None,  # of a file, nobody knows
            "train": train,
            "eyes": eyes,
        }
        measures += judged
        shown.append(tables.of_measures("stories", judged, reference="real stories"))
        shown.append(Text(_about_eyes(eyes), style="dim"))
        save()
    if tasks is not None:
        answered = ask_tasks(tasks, network, words, harness_limit, batch_size)
        found["harness"] = {"limit": harness_limit, **answered.to_json()}
        measures += answered.measures
        if answered.measures:
            shown.append(tables.of_measures("zero-shot", answered.measures, reference="chance"))
    text = save()  # before anything is printed: who reads that may be gone, as in `| head -3`
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
        "max_stories": corpus.max_stories,
        "unreadable": dict(corpus.unreadable),
        "repaired": dict(corpus.repaired),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _about_eyes(eyes: str | None) -> str:
    if eyes is None:
        return "MAUVE needs eyes, the same for all models that are compared: --eyes MODEL."
    return f"MAUVE and eyes bits per byte as {eyes} sees it: compare them with figures of the same eyes only."

"""`storylm judge`: stories graded by a language model behind an endpoint, or by one that learned what is damaged."""

import os
from pathlib import Path

import typer

from storylm.cli import options


def judge(
    model: str = typer.Argument(None, help=f"Whose stories: {options.MODEL_HELP[0].lower()}{options.MODEL_HELP[1:]}"),
    stories: Path = typer.Option(None, help="Stories to judge instead: a .txt or .jsonl file (`storylm generate`)."),
    endpoint: str = typer.Option(None, metavar="URL", help="An OpenAI-compatible API, as http://localhost:8000/v1."),
    judge: str = typer.Option(None, metavar="NAME", help="The model that judges, as the endpoint names it."),
    learned: str = typer.Option(None, metavar="FOLDER", help="Judge offline, by a judge that --learn made."),
    learn: str = typer.Option(
        None, metavar="SOURCE", help="Make a judge of MODEL: teach it damage to these training stories, into --out."
    ),
    learn_stories: int = typer.Option(1000, min=2, help="How many of them, each of which it sees in many ways."),
    out: Path = typer.Option(None, help="The folder of stories, answers and figures; run again, it is gone on with."),
    samples: int = typer.Option(10, min=1, help="Stories that the model tells from each of 50 beginnings."),
    temperature: options.Temperature = 1.0,
    max_new_tokens: options.MaxNewTokens = 256,
    seed: options.Seed = 0,
    api_key_env: str = typer.Option("OPENAI_API_KEY", help="The environment variable that has the endpoint's key."),
    per_minute: float = typer.Option(60.0, min=0.1, help="Requests a minute, at most."),
    parallel: int = typer.Option(4, min=1, max=64, help="Requests at once, at most."),
    timeout: float = typer.Option(60.0, min=0.1, help="Seconds to wait for an answer."),
    judge_temperature: float = typer.Option(0.0, min=0, help="Of the model that judges."),
    judge_max_tokens: int = typer.Option(
        300, min=40, help="The longest answer, thoughts included: a model that thinks needs thousands."
    ),
    schema: bool = typer.Option(True, help="Ask for answers by a JSON schema; not all endpoints know these."),
    price_in: float = typer.Option(None, min=0, help="What a million tokens that the judge reads cost."),
    price_out: float = typer.Option(None, min=0, help="What a million tokens that it writes cost."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask whether to begin."),
    tokenizer: options.OtherTokenizer = None,
    device: options.Device = "auto",
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """Let a judge grade stories: grammar, creativity, consistency and plot from 1 to 10, or how damaged they look.

    A model tells 10 stories from each of 50 beginnings at temperature 1, as in the TinyStories paper. Every answer of
    the judge is kept as it comes; a second judge with the same --out grades the same stories, and how far they agree is
    said.
    """
    from storylm.cli import judges
    from storylm.cli.stories_to_judge import Teller, stories_in, stories_of
    from storylm.config.errors import UsageError
    from storylm.evaluation.judge.asking import Judge
    from storylm.evaluation.judge.cost import estimate, longest
    from storylm.evaluation.judge.endpoint import Endpoint
    from storylm.evaluation.judge.learned import LearnedJudge
    from storylm.evaluation.telling import Manner
    from storylm.training.device import pick_device

    if learn is not None:
        if model is None or out is None or stories or endpoint or learned:
            raise UsageError("--learn makes a judge of a model: `storylm judge MODEL --learn SOURCE --out FOLDER`")
        judges.learn(model, learn, learn_stories, out, tokenizer, device, seed)
        return
    if (model is None) == (stories is None):
        raise UsageError("say whose stories to judge: a model, or --stories FILE; one of the two")
    if (endpoint is None) == (learned is None):
        raise UsageError("say who judges: --endpoint URL with --judge NAME, or --learned FOLDER")
    if endpoint is not None and (judge is None or out is None):
        raise UsageError("--endpoint needs --judge NAME, the model that judges, and --out FOLDER for its answers")
    if learned is not None and judge is not None:
        raise UsageError("--judge names a model behind --endpoint: leave it out, or --learned")
    asked = None
    if endpoint is not None:  # before any work
        behind = Endpoint(endpoint, os.environ.get(api_key_env) or None, timeout)
        asked = Judge(behind, judge, judge_temperature, schema, judge_max_tokens, per_minute, parallel)
    grader = None if learned is None else LearnedJudge.load(learned, pick_device(device, "--device"))
    consent = judges.Consent(price_in, price_out, yes)

    def before_telling(beginnings: list[str]) -> None:
        if asked is not None:  # rather than after an hour of telling
            asked.endpoint.check_answers()
            consent.ask(estimate(longest(beginnings, max_new_tokens)), asked, "at most")

    if model is not None:
        teller = Teller(model, samples, Manner(temperature, max_new_tokens, seed), tokenizer, device)
        told = stories_of(teller, out, before_telling)
    else:
        told = stories_in(stories, out)
    if grader is not None:
        found = judges.by_learned(grader, learned, told, out, seed)
    else:
        assert asked is not None
        assert out is not None
        found = judges.by_endpoint(asked, told, out, consent, seed)
    judges.show(found, as_json)

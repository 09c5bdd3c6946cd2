"""Who judges stories for `storylm judge`: a model behind an endpoint, or one that learned; and what came of it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.evaluation.judge.cost import Cost
    from storylm.evaluation.judge.grading import Judge
    from storylm.evaluation.judge.rubric import Grades
    from storylm.evaluation.text.metric import Told

ANSWERS, FIGURES = "answers.jsonl", "judged.json"


@dataclass(frozen=True)
class Consent:
    """What is said before money is spent: prices of a million tokens, and whether to begin without asking."""

    price_in: float | None
    price_out: float | None
    given: bool

    def ask(self, cost: "Cost", judge: "Judge") -> None:
        """Say what is ahead; on a terminal ask whether to begin. Raises `UsageError` where nobody can be asked."""
        from storylm.config.errors import UsageError

        money = cost.money(self.price_in, self.price_out)
        about = (
            f"{cost.requests:,} requests to {judge.model} at {judge.endpoint.url}: about {cost.tokens_in:,} tokens to "
            f"read and {cost.tokens_out:,} to write, {cost.requests / judge.per_minute:,.1f} minutes or more, "
            + (f"{money:,.2f} at these prices" if money is not None else "cost unknown: see --price-in and --price-out")
        )
        print(about, file=sys.stderr, flush=True)
        if self.given:
            return
        if not sys.stdin.isatty():
            raise UsageError("nobody is here to be asked whether to begin: say --yes")
        typer.confirm("begin?", abort=True, err=True)


def by_endpoint(judge: "Judge", told: "list[Told]", out: Path, consent: Consent, seed: int) -> dict[str, Any]:
    """The judge's figures of all stories, and how it agrees with every judge that graded them before."""
    from storylm.cli.counting import counting
    from storylm.data.cache import locked
    from storylm.evaluation.judge import rubric
    from storylm.evaluation.judge.agreement import agreement
    from storylm.evaluation.judge.cost import estimate
    from storylm.evaluation.judge.figures import age_groups, measures
    from storylm.evaluation.judge.grading import grade, known
    from storylm.evaluation.judge.kept import Kept

    with locked(out, f"waiting for another process that judges into {out}"), Kept(out / ANSWERS) as kept:
        waiting = [story for story, grades in zip(told, known(judge, told, kept), strict=True) if grades is None]
        if waiting:
            distinct = list({judge.key(story): story for story in waiting}.values())
            consent.ask(estimate(distinct), judge)
        try:
            with counting("judging", total := len(waiting)) as live:
                graded = grade(
                    judge, told, kept, lambda done, failed: live("judging", done, total, f"{failed:,} failed")
                )
        except KeyboardInterrupt:
            print(f"{len(kept):,} answers are kept in {out}: run the same again to go on", file=sys.stderr)
            raise
        others = _other_judges(out, judge, told)
    return {
        "judge": judge.model,
        "endpoint": judge.endpoint.url,
        "parameters": judge.parameters,
        "rubric": rubric.fingerprint(),
        "stories": len(told),
        "graded": sum(one is not None for one in graded.grades),
        "failures": graded.failures,
        "tokens": {"in": graded.tokens_in, "out": graded.tokens_out},
        "metrics": [one.to_json() for one in measures(told, graded.grades, seed)],
        "age_groups": age_groups(graded.grades),
        "grades": [None if one is None else one.to_json() for one in graded.grades],
        "agreement": {
            name: [one.to_json() for one in agreement(graded.grades, theirs)] for name, theirs in others.items()
        },
    }


def by_learned(folder: str, told: "list[Told]", device: str, seed: int) -> dict[str, Any]:
    """What a learned judge makes of the stories."""
    from storylm.evaluation.judge.figures import mean_by_beginning
    from storylm.evaluation.judge.learned import LearnedJudge
    from storylm.training.device import pick_device

    judge = LearnedJudge.load(folder, pick_device(device, "--device"))
    found = judge.grade([story.text for story in told])
    return {
        "learned": folder,
        "about": judge.about,
        "stories": len(told),
        "metrics": [
            mean_by_beginning("probability_damaged", told, found[:, 0].tolist(), seed, "lower").to_json(),
            mean_by_beginning("severity", told, found[:, 1].tolist(), seed, "lower").to_json(),
        ],
        "grades": [{"probability_damaged": one[0], "severity": one[1]} for one in found.tolist()],
    }


def learn(model: str, source: str, count: int, out: Path, tokenizer: str | None, device: str, seed: int) -> None:
    """Make a judge of the model, from the first `count` training stories of the source, into `out`."""
    from storylm.cli.counting import counting
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.judge.examples import examples
    from storylm.evaluation.judge.learned import LearnedJudge

    stories = list(Corpus(source, "train", count))
    network, words = options.load_model(model, tokenizer, device)
    about = {"model": model, "source": source, "stories": len(stories), "seed": seed}
    with counting(f"learning from {len(stories):,} stories, sound and damaged"):
        judge = LearnedJudge.learn(network, words, examples(stories, seed=seed), about)
    judge.save(out)
    print(f"{out}: a judge that learned from {judge.about['examples']:,} stories, sound and damaged")
    print(f"next   storylm judge --stories FILE --learned {out}")


def show(found: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Print the figures, and write them to `out`: all judges' figures are in one file there, by judge."""
    from rich.console import Console

    from storylm.cli import tables
    from storylm.config.files import write_text
    from storylm.evaluation.measure import Measure

    name = found.get("judge") or found["learned"]
    if out is not None:
        path = out / FIGURES
        write_text(path, json.dumps(_judged(path) | {name: found}, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(tables.of_measures(f"judged by {name}", [Measure.from_json(row) for row in found["metrics"]]))
    for line in _lines(found):
        console.print(line, soft_wrap=True, markup=False)


def _judged(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it is made anew from the answers, whoever asks for them
    return content if isinstance(content, dict) else {}


def _lines(found: dict[str, Any]) -> list[str]:
    """What else there is to say."""
    from storylm.evaluation.judge.rubric import AGE_GROUPS

    lines = []
    if "age_groups" in found:
        shares = [f"{AGE_GROUPS[letter]}: {count}" for letter, count in found["age_groups"].items() if count]
        lines.append(f"age groups: {', '.join(shares) or 'none'}")
        lines.append(f"{found['graded']} of {found['stories']} stories graded; rubric {found['rubric'][:12]}")
    for why, count in found.get("failures", {}).items():
        lines.append(f"not graded: {count} x {why}")
    for name, rows in found.get("agreement", {}).items():
        told = ", ".join(f"{row['name'].replace('_', ' ')} {_figure(row['value'])}" for row in rows)
        lines.append(f"agreement with {name}: {told or 'fewer than two stories in common'}")
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _other_judges(out: Path, judge: "Judge", told: "list[Told]") -> "dict[str, list[Grades | None]]":
    """The grades that other judges of the same rubric gave these stories."""
    from storylm.evaluation.judge import rubric

    others = {}
    for name, found in _judged(out / FIGURES).items():
        grades = found.get("grades", []) if isinstance(found, dict) else []
        if name != judge.model and found.get("rubric") == rubric.fingerprint() and len(grades) == len(told):
            others[name] = [None if row is None else rubric.from_values(row) for row in grades]
    return others

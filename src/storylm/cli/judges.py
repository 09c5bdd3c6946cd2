"""Who judges stories for `storylm judge`: a model behind an endpoint, or one that learned; and what came of it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.evaluation.judge.asking import Judge
    from storylm.evaluation.judge.cost import Cost
    from storylm.evaluation.judge.learned import LearnedJudge
    from storylm.evaluation.text.metric import Told

ANSWERS, FIGURES = "answers.jsonl", "judged.json"


@dataclass
class Consent:
    """What is said before money is spent: prices of a million tokens, and whether someone has agreed already."""

    price_in: float | None
    price_out: float | None
    given: bool

    def ask(self, cost: "Cost", judge: "Judge", about: str = "about") -> None:
        """Say what is ahead, and on a terminal ask whether to begin, once. Raises `UsageError` elsewhere."""
        from storylm.config.errors import UsageError

        longest = cost.thinking(judge.max_tokens)
        money = [one.money(self.price_in, self.price_out) for one in (cost, longest)]
        prices = "cost unknown: see --price-in and --price-out"
        if None not in money:
            prices = f"{money[0]:,.2f} at these prices ({money[1]:,.2f})"
        ahead = (
            f"{cost.requests:,} requests to {judge.model} at {judge.endpoint.base}: {about} {cost.tokens_in:,} tokens "
            f"to read and {cost.tokens_out:,} to write ({longest.tokens_out:,} if it thinks for as long as it may), "
            f"{cost.requests / judge.per_minute:,.1f} minutes or more, {prices}"
        )
        print(ahead, file=sys.stderr, flush=True)
        if self.given:
            return
        if not sys.stdin.isatty():
            raise UsageError("nobody is here to be asked whether to begin: say --yes")
        typer.confirm("begin?", abort=True, err=True)
        self.given = True


def by_endpoint(judge: "Judge", told: "list[Told]", out: Path, consent: Consent, seed: int) -> dict[str, Any]:
    """The judge's figures of all stories, and how it agrees with every judge that graded them before."""
    from storylm.cli.counting import counting
    from storylm.data.cache import locked
    from storylm.evaluation.judge import judged
    from storylm.evaluation.judge.cost import estimate
    from storylm.evaluation.judge.grading import grade, waiting
    from storylm.evaluation.judge.kept import Kept

    with locked(out, f"waiting for another process that judges into {out}"), Kept(out / ANSWERS) as kept:
        ahead = list(waiting(judge, told, kept).values())
        if ahead:
            consent.ask(estimate(ahead), judge)
        try:
            with counting("judging", total := len(ahead)) as live:
                graded = grade(
                    judge, told, kept, lambda done, failed: live("judging", done, total, f"{failed:,} failed")
                )
        except KeyboardInterrupt:
            print(f"{len(kept):,} answers are kept in {out}: run the same again to go on", file=sys.stderr)
            raise
        others = judged.others(out / FIGURES, judge.name, len(told))
        found = judged.findings(judge, told, graded, others, seed)
        judged.add(out / FIGURES, judge.name, found)
    return found


def by_learned(judge: "LearnedJudge", folder: str, told: "list[Told]", out: Path | None, seed: int) -> dict[str, Any]:
    """What a learned judge, that of `folder`, makes of the stories."""
    from storylm.evaluation.judge import judged
    from storylm.evaluation.judge.figures import mean_by_beginning

    grades = judge.grade([story.text for story in told])
    found = {
        "learned": folder,
        "about": judge.about,
        "stories": len(told),
        "metrics": [
            mean_by_beginning("probability_damaged", told, grades[:, 0].tolist(), seed, "lower").to_json(),
            mean_by_beginning("severity", told, grades[:, 1].tolist(), seed, "lower").to_json(),
        ],
        "grades": [{"probability_damaged": one[0], "severity": one[1]} for one in grades.tolist()],
    }
    if out is not None:
        judged.add(out / FIGURES, folder, found)
    return found


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


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print the figures."""
    from rich.console import Console

    from storylm.cli import tables
    from storylm.evaluation.measure import Measure

    name = found.get("judge") or found["learned"]
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(tables.of_measures(f"judged by {name}", [Measure.from_json(row) for row in found["metrics"]]))
    for line in _lines(found):
        console.print(line, soft_wrap=True, markup=False)


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

"""What came of judging, as JSON; one file has it of all judges of the same stories, by judge."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storylm.config.files import write_text
from storylm.evaluation.judge.agreement import agreement
from storylm.evaluation.judge.asking import Judge
from storylm.evaluation.judge.figures import age_groups, measures
from storylm.evaluation.judge.grading import Graded
from storylm.evaluation.judge.rubric import BadAnswer, Grades, fingerprint, from_values
from storylm.evaluation.text.metric import Told

Others = Mapping[str, Sequence[Grades | None]]
"""The grades of other judges, by judge."""


def findings(judge: Judge, stories: Sequence[Told], graded: Graded, others: Others, seed: int = 0) -> dict[str, Any]:
    """All there is to say about the stories by a judge, and how it agrees with the others."""
    return {
        "judge": judge.model,
        "endpoint": judge.endpoint.base,
        "parameters": judge.parameters,
        "rubric": fingerprint(),
        "stories": len(stories),
        "graded": sum(one is not None for one in graded.grades),
        "failures": graded.failures,
        "tokens": {"in": graded.tokens_in, "out": graded.tokens_out},
        "metrics": [one.to_json() for one in measures(stories, graded.grades, seed)],
        "age_groups": age_groups(graded.grades),
        "grades": [None if one is None else one.to_json() for one in graded.grades],
        "agreement": {
            name: [one.to_json() for one in agreement(graded.grades, theirs)] for name, theirs in others.items()
        },
    }


def add(path: Path, name: str, found: dict[str, Any]) -> None:
    """Put what was found by a judge into the file, in place of what it found before."""
    write_text(path, json.dumps(_read(path) | {name: found}, indent=2, ensure_ascii=False) + "\n")


def others(path: Path, name: str, count: int) -> Others:
    """The grades that the judges of a file, but for that of this name, gave `count` stories by the same rubric."""
    found = {}
    for other, content in _read(path).items():
        try:
            if other != name and content["rubric"] == fingerprint() and len(content["grades"]) == count:
                found[other] = [None if row is None else from_values(row) for row in content["grades"]]
        except (KeyError, TypeError, AttributeError, BadAnswer):
            continue  # a learned judge, which gives no grades, or damaged
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it is made anew from the answers, whoever asks for them
    return content if isinstance(content, dict) else {}

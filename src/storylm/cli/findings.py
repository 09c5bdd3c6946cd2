"""The parts of `storylm evaluate`: each found, written to the file before the next begins, and shown as tables."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storylm.cli import tables
from storylm.cli.counting import counting

if TYPE_CHECKING:
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.measure import Measure
    from storylm.evaluation.telling import Manner
    from storylm.evaluation.told import Stories
    from storylm.evaluation.zero_shot import Tasks
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer


@dataclass
class Findings:
    """What is found about a model. `about` is what there is to say of it beforehand; `output` is where it is kept."""

    model: "Transformer"
    tokenizer: "Tokenizer"
    about: dict[str, Any]
    output: Path | None
    measures: "list[Measure]" = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)

    def predicting(
        self,
        corpus: "Corpus",
        batch_size: int,
        stride: int | None,
        seed: int,
        *,
        details: bool = False,
        per_story: bool = False,
    ) -> None:
        """How well it predicts these stories; with `details`, where in them; with `per_story`, each of them."""
        from storylm.cli.judging import judge_in_full
        from storylm.evaluation.likelihood import CONVENTION

        likelihood, kept, breakdown = judge_in_full(
            self.model, self.tokenizer, corpus, batch_size, stride, details=details
        )
        self.about |= {
            "data": corpus.name,
            "split": corpus.split,
            "max_stories": corpus.max_stories,
            "unreadable": dict(corpus.unreadable),
            "repaired": dict(corpus.repaired),
            "convention": CONVENTION,
            **likelihood.to_json(),
        }
        self.measures += kept.measures(likelihood, seed)
        self.shown += tables.of_likelihood(likelihood, self.measures, CONVENTION)
        if corpus.split == "all":
            self.about["splits"] = kept.by_split(corpus.counted, seed)
            self.shown += tables.of_splits(self.about["splits"])
        if per_story:
            self.about["per_story"] = kept.to_json()
        if breakdown is not None:
            self.about["details"] = breakdown.to_json()
            self.shown += tables.of_details(breakdown)
        self.save()

    def asking(self, suite: str, seed: int, max_new_tokens: int) -> None:
        """What it answers to a suite of prompts."""
        from storylm.evaluation.asking import ask_suite

        with counting(f"asking {suite}"):
            asked, answers = ask_suite(self.model, self.tokenizer, suite, seed, max_new_tokens)
        self.about.setdefault("suites", {})[suite] = answers
        self.measures += asked
        self.shown.append(tables.of_measures(suite, asked, reference="chance"))
        self.save()

    def telling(
        self, stories: "Stories", manner: "Manner", seeing: "tuple[Transformer, Tokenizer] | None", **named: str | None
    ) -> None:
        """How good the stories are that it tells, or those of a file. `named`: `train`, `eyes` and `file`."""
        from rich.text import Text

        from storylm.evaluation.told import judge_told

        with counting("stories") as live:
            judged, told = judge_told(self.model, self.tokenizer, stories, manner, seeing, live, _say)
        self.about["told"] = [story.to_json() for story in told]
        temperature = manner.temperature if stories.given is None else None  # of a file, nobody knows
        self.about["telling"] = {"count": stories.count, "temperature": temperature, **named}
        self.measures += judged
        self.shown.append(tables.of_measures("stories", judged, reference="real stories"))
        self.shown.append(Text(_about_eyes(named["eyes"]), style="dim"))
        self.save()

    def answering(self, tasks: "Tasks", limit: int | None, batch_size: int) -> None:
        """What it knows of lm-eval's tasks."""
        from storylm.cli.zero_shot import ask_tasks

        answered = ask_tasks(tasks, self.model, self.tokenizer, limit, batch_size)
        self.about["harness"] = {"limit": limit, **answered.to_json()}
        self.measures += answered.measures
        if answered.measures:
            self.shown.append(tables.of_measures("zero-shot", answered.measures, reference="chance"))
        self.save()

    def to_json(self) -> str:
        """All of it."""
        found = {**self.about, "metrics": [measure.to_json() for measure in self.measures]}
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    def save(self) -> None:
        """So that what is computed is not lost, whatever becomes of the next part."""
        from storylm.config.files import write_text

        if self.output is not None:
            write_text(self.output, self.to_json())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _about_eyes(eyes: str | None) -> str:
    if eyes is None:
        return "MAUVE needs eyes, the same for all models that are compared: --eyes MODEL."
    return f"MAUVE and eyes bits per byte as {eyes} sees it: compare them with figures of the same eyes only."

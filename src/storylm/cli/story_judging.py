"""The parts of `storylm evaluate` that ask suites and judge stories, with a line on stderr of what is being done."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.measure import Measure
    from storylm.evaluation.text.judge import Real
    from storylm.evaluation.text.metric import Told
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer

INSTRUCT = "instruct"


def suite_names(given: str | None) -> list[str]:
    """The suites that `--suites` names.

    Raises:
        UsageError: one does not exist.
    """
    from storylm.config.errors import UsageError
    from storylm.evaluation.suites import SUITES

    known = [*SUITES, INSTRUCT]
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    for name in names:
        if name not in [*known, "all"]:
            raise UsageError(f"no prompt suite {name!r}: --suites takes {', '.join(known)}, or all")
    if given is not None and not names:
        raise UsageError(f"--suites is empty: it takes {', '.join(known)}, or all")
    return known if "all" in names else list(dict.fromkeys(names))


def ask_suite(
    model: "Transformer", tokenizer: "Tokenizer", name: str, seed: int, max_new_tokens: int
) -> "tuple[list[Measure], list[dict[str, Any]]]":
    """The figures of a suite, and every answer."""
    from storylm.evaluation import answers, instructions, suites

    with _status(f"asking {name}"):
        if name == INSTRUCT:
            orders = instructions.instructions()
            stories = instructions.follow(model, tokenizer, seed, max_new_tokens)
            rows = [
                {"prompt": order.prompt, "story": story, "met": order.check(story)}
                for order, story in zip(orders, stories, strict=True)
            ]
            return instructions.measures(stories, orders, seed), rows
        suite = suites.load_suite(name)
        found = answers.ask(model, tokenizer, suite)
        return answers.measures(suite, found, seed), [answer.to_json() for answer in found]


@dataclass(frozen=True)
class Plan:
    """What `--stories` asks for: to tell `count` stories, or those that are in a file; beside which real ones."""

    count: int
    told: "list[Told] | None"
    real: "Corpus | None"
    train: "Corpus | None"


def plan(given: str, train: str | None, split: str | None, data: str | None) -> Plan:
    """What `--stories` means, before anything takes long.

    Raises:
        UsageError: neither a number nor a file of stories.
        DataError: a file or corpus that is not there.
        SetupError: the extra `eval` is not installed.
    """
    from storylm.config.errors import UsageError
    from storylm.config.files import expanded
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.telling import FILES, read_told
    from storylm.evaluation.text.judge import check_extra

    check_extra()
    real = None if data is None else Corpus(data, split)
    known = None if train is None else Corpus(train, "train")
    if given.isdigit():
        if int(given) < 1:
            raise UsageError("--stories 0 are none: it is 1 or more, or a file")
        return Plan(int(given), None, real, known)
    if Path(given).suffix.lower() not in FILES:
        raise UsageError(f"--stories {given} is neither a number nor a file that ends in {' or '.join(FILES)}")
    told = read_told(expanded(given))
    return Plan(len(told), told, real, known)


def judge_told(
    model: "Transformer",
    tokenizer: "Tokenizer",
    plan: Plan,
    eyes: "tuple[Transformer, Tokenizer] | None",
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> "tuple[list[Measure], list[dict[str, Any]]]":
    """The figures of stories that the model tells, or that are given; and the stories."""
    from storylm.evaluation.instructions import beginnings
    from storylm.evaluation.telling import real_stories, tell_endings
    from storylm.evaluation.text.judge import judge_stories
    from storylm.evaluation.true_endings import as_long, as_told
    from storylm.generation.sampling import Sampling

    with _status("reading stories") as status:
        told = plan.told
        if told is None:
            real = None if plan.real is None else real_stories(plan.real, plan.count)
            given = [story.beginning for story in real.endings] if real else beginnings()
            prompts = given if real else [given[number % len(given)] for number in range(plan.count)]
            told = tell_endings(
                model,
                tokenizer,
                prompts,
                Sampling(temperature=temperature),
                max_new_tokens,
                seed,
                progress=lambda count: status.update(f"telling: {count:,} of {len(prompts):,} stories"),
            )
            real = None if real is None else as_told(model, tokenizer, real, max_new_tokens)
        else:
            real = None if plan.real is None else as_long(told, tokenizer, _real_beside(told, plan.real))
        measures = judge_stories(
            told, real, eyes, plan.train, seed, lambda what: status.update(f"judging stories: {what}")
        )
    return measures, [story.to_json() for story in told]


def _real_beside(told: "list[Told]", corpus: "Corpus") -> "Real":
    """Real stories to hold those of a file against: the true endings, if each begins as one of the corpus does."""
    from storylm.evaluation.telling import real_stories
    from storylm.evaluation.true_endings import true_endings

    if not all(story.beginning for story in told):
        return real_stories(corpus, len(told)).whole  # told from the start, so held against whole stories
    found = true_endings(corpus, told)
    if found is None:
        print(f"no BLEU and ROUGE: not every story begins as one of {corpus.name} does", file=sys.stderr)
        return real_stories(corpus, len(told))
    return found


def _status(what: str) -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False).status(what)  # nothing where that is no terminal

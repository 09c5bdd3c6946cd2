"""A leaderboard as tables, Markdown and JSON: bits per byte and how sure they are, then what models know and tell."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storylm.evaluation.leaderboard.board import Board
from storylm.evaluation.leaderboard.examine import CONVENTION
from storylm.evaluation.leaderboard.ranking import Place
from storylm.evaluation.measure import Measure
from storylm.evaluation.suites import SUITES
from storylm.report.charts import Chart, Line

# Figures of stories worth a column, by what docs/evaluation.md says that each notices; all others are in the JSON.
HEADLINES = ("grammar_lints", "kept_names", "ended_properly", "distinct_2", "eyes_bits_per_byte", "mauve")
BETTER = {"higher": "↑", "lower": "↓", "reference": "≈"}
NOTES = (
    "The p of a difference to the best is the probability of one so large if it did not matter which model scored "
    "which story (10,000 exchanges); a model whose p is 0.05 or more shares the first place."
)
ARROWS = (
    "↑ more is better, ↓ less is better, ≈ near the figure of real stories is better. Below what models know "
    "stands chance. In brackets: real stories cut where this model's are, where that makes a difference."
)


LOSSY = " *"  # beside a name in the first table


@dataclass(frozen=True)
class Table:
    """Text in rows; `texts` is how many columns on the left are no figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int

    def markdown(self) -> str:
        """As Markdown has tables."""
        rule = ["---" if at < self.texts else "--:" for at in range(len(self.head))]
        return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (self.head, rule, *self.rows))


def predicting(board: Board) -> Table:
    """How well each model predicts stories, against the best one, and what it costs."""
    head = ["", "model", "bits per byte", "95 %", "to the best", "p", "size", "tokens/s"]
    rows = []
    for number, place in enumerate(board.places, 1):
        found, paired = place.entry.findings, place.against_best
        rows.append(
            [
                rank(place, number),
                place.entry.short + ("" if found.lossless else LOSSY),
                shown(found.bits_per_byte.value),
                interval(found.bits_per_byte),
                "" if paired is None else f"{paired.difference:+.4f}",
                "" if paired is None else probability(paired.p_value),
                f"{found.parameters / 1e6:.2f}M",
                f"{found.tokens_per_second:,.0f}",
            ]
        )
    return Table(head, rows, texts=2)


def telling(board: Board) -> Table:
    """What each model knows by the suites, and how its stories are beside real ones, which stand in the last row."""
    names = [f"{suite}_accuracy" for suite in SUITES] + list(HEADLINES)
    first = [place.entry.findings.measure(name) for name in names for place in board.places[:1]]
    columns = [one for one in first if one is not None]
    head = ["model", *(f"{_title(one.name)} {BETTER[one.direction]}" for one in columns)]
    rows = [
        [place.entry.short, *(_beside(one, place.entry.findings.measure(one.name), _brief) for one in columns)]
        for place in board.places
    ]
    last = "real stories" if board.questions.stories else "chance"
    return Table(head, [*rows, [last, *(_brief(one.name, one.reference) for one in columns)]], texts=1)


def everything(board: Board) -> Table:
    """Every figure of every model, a row each, with its reference."""
    findings = [place.entry.findings for place in board.places]
    head = ["figure", *(place.entry.short for place in board.places), "reference", ""]
    rows = []
    for one in findings[0].measures:
        values = [_beside(one, of.measure(one.name), lambda _, value: shown(value)) for of in findings]
        rows.append([one.name.replace("_", " "), *values, shown(one.reference), BETTER[one.direction]])
    return Table(head, rows, texts=1)


def by_size(board: Board) -> Chart | None:
    """Bits per byte by parameters; None where there is nothing to compare."""
    if len(board.places) < 2:
        return None
    found = [(place.entry.short, place.entry.findings) for place in board.places]
    lines = [Line(name, [(of.parameters, of.figure)], number, True) for number, (name, of) in enumerate(found)]
    return Chart("Bits per byte by size", "parameters", "bits per byte", lines, log_x=True)


def verdict(board: Board) -> str:
    """Who leads, and by how much, in a sentence."""
    first, *others = board.places
    found = first.entry.findings.bits_per_byte
    around = f" ({interval(found)})" if found.interval else ""
    lead = f"{first.entry.short} predicts stories best: {found.value:.4f} bits per byte{around}"
    if not others:
        return f"{lead}."
    second, paired = others[0], others[0].against_best
    assert paired is not None
    ahead = f", {paired.difference:.4f} fewer than {second.entry.short}"
    sure = "" if second.surely_behind else ", which chance may well have made"
    return f"{lead}{ahead} (p = {probability(paired.p_value)}){sure}."


def cautions(board: Board) -> list[str]:
    """What figures suffer from: tokenizers that lose some of a text, and stories that could not be read as they are."""
    asked, found = board.questions.about, []
    if any(not place.entry.findings.lossless for place in board.places):
        found.append("* Its tokenizer does not give every text back: bits per byte are too low where it drops some.")
    for what, key in (("Left out, unreadable", "unreadable"), ("Read after a repair", "repaired")):
        if asked[key]:
            found.append(f"{what}: {', '.join(f'{count:,} x {why}' for why, count in asked[key].items())}.")
    return found


def _measured(board: Board) -> str:
    """When speeds were measured: a machine that is busy is slower."""
    days = sorted({place.entry.findings.asked[:10] for place in board.places})
    if len(days) == 1:
        return f"measured on {days[0]}"
    return f"measured on {' and '.join(days)}, when the machine may have been busy with other things: --again compares"


def about(board: Board) -> str:
    """What was asked, in a few sentences."""
    asked, count = board.questions.about, len(board.places[0].entry.findings.told)
    fewer = f" ({asked['told']} were asked for: the corpus has no more)" if count < asked["told"] else ""
    told = (
        f"Of {count} stories{fewer}, the beginning is that of a real one; up to {asked['max_new_tokens']} tokens are "
        f"told at temperature {asked['temperature']:g}. "
        if asked["told"]
        else ""
    )
    return (
        f"{asked['stories']:,} stories of {asked['data']} ({asked['split']}), {asked['bytes']:,} bytes, SHA-256 "
        f"{asked['sha256'][:16]}…. {CONVENTION} {told}Tokens a second are of telling one story at a time, the "
        f"fastest of three, {_measured(board)}."
    )


def markdown(board: Board, machine: str, pictures: Sequence[str] = ()) -> str:
    """The whole leaderboard as a page of Markdown, with links to the pictures beside it."""
    quotes = [f"**{place.entry.short}**\n\n{_quoted(place.entry.findings.story)}" for place in board.places]
    left = [f"- {name}: {error}" for name, error in board.left_out.items()]
    return (
        "\n\n".join(
            [
                "# Leaderboard",
                verdict(board),
                predicting(board).markdown(),
                telling(board).markdown(),
                f"{ARROWS} {NOTES}",
                *cautions(board),
                *(f"![{Path(name).stem.replace('-', ' ')}]({name})" for name in pictures),
                f"{about(board)} Measured on {machine}.",
                "## The same prompt",
                *quotes,
                *(["## Left out", "\n".join(left)] if left else []),
            ]
        )
        + "\n"
    )


def to_json(board: Board, machine: str) -> str:
    """Every figure, with intervals and references, and every comparison."""
    models = []
    for number, place in enumerate(board.places, 1):
        entry, paired = place.entry, place.against_best
        row: dict[str, Any] = {"rank": 1 if not place.surely_behind else number, "model": entry.name}
        row |= {"weights": entry.weights, "tokenizer": entry.tokenizer, "parameters": entry.findings.parameters}
        row |= {"tokenizer_lossless": entry.findings.lossless, "asked": entry.findings.asked}
        row |= {"tokens_per_second": entry.findings.tokens_per_second, "story": entry.findings.story}
        row["metrics"] = [one.to_json() for one in entry.findings.measures]
        row["against_best"] = paired and {
            **paired.measure("bits_per_byte_difference").to_json(),
            "p_value": paired.p_value,
            "stories": paired.stories,
        }
        models.append(row)
    content = {
        "asked": board.questions.about,
        "convention": CONVENTION,
        "machine": machine,
        "models": models,
        "twins": board.twins,
        "left_out": [{"model": name, "why": str(error)} for name, error in board.left_out.items()],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def rank(place: Place, number: int) -> str:
    """Its number; the first also of who may be as good."""
    return str(number) if place.surely_behind else "1"


def shown(value: float | None) -> str:
    """A figure with as many digits as tell models apart."""
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def interval(one: Measure) -> str:
    """Where 95 % lie; nothing where that is not known, as of one story."""
    return "" if one.interval is None else " to ".join(f"{end:.4f}" for end in one.interval)


def probability(value: float) -> str:
    """As exact as 10,000 exchanges make it."""
    return f"{value:.2g}" if value > 0.0001 else "0.0001"


def own_reference(reference: float | None, column: float | None) -> float | None:
    """A model's own reference where the column's would mislead: beside stories cut short stand real ones cut short."""
    if reference is None or column is None or abs(reference - column) <= 0.05 * abs(column):
        return None
    return reference


def _beside(first: Measure, one: Measure | None, say: Callable[[str, float | None], str]) -> str:
    """A model's figure, with its own reference where that is not the column's."""
    if one is None:
        return say(first.name, None)
    own = own_reference(one.reference, first.reference)
    return say(one.name, one.value) + ("" if own is None else f" ({say(one.name, own)})")


def _brief(name: str, value: float | None) -> str:
    """A figure among many: a share of answers in percent, others to three places."""
    if value is None:
        return "-"
    return f"{value:.0%}" if name.endswith("_accuracy") else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _title(name: str) -> str:
    return name.removesuffix("_accuracy").replace("_", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _quoted(story: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in story.splitlines()) or ">"

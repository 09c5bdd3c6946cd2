"""`CleaningReport`: what cleaning did, rule by rule, with examples. Reports of parts add up to that of the whole."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

RULES = (
    "reading",  # not a setting: records that could not be read, or only after a repair
    "mojibake",
    "control",
    "whitespace",
    "fragments",
    "truncated",
    "exact_duplicates",
    "near_duplicates",
    "overlap",
)
EXAMPLES = 5
EXAMPLE_CHARACTERS = 200


@dataclass
class RuleReport:
    """How many stories one rule changed and dropped, and the first few of them, shortened."""

    changed: int = 0
    dropped: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class CleaningReport:
    """Counts of one split, or of a part of it. `kept` is what `read` and the drops leave: nothing else is stored.

    >>> report = CleaningReport(read=3)
    >>> report.drop("truncated", "Once upon a")
    >>> (report + report).kept
    4
    """

    read: int = 0
    rules: dict[str, RuleReport] = field(default_factory=lambda: {rule: RuleReport() for rule in RULES})
    problems: Counter[str] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        """Records that were read and not kept."""
        return sum(rule.dropped for rule in self.rules.values())

    @property
    def kept(self) -> int:
        """Stories that every rule let through."""
        return self.read - self.dropped

    def change(self, rule: str, before: str, after: str) -> None:
        """Count a story that `rule` changed. Its example is the first difference and what surrounds it."""
        self.rules[rule].changed += 1
        if len(self.rules[rule].examples) < EXAMPLES:
            start = max(0, _first_difference(before, after) - 30)
            self._example(rule, f"{before[start : start + 80]!r} -> {after[start : start + 80]!r}")

    def drop(self, rule: str, text: str) -> None:
        """Count a story that `rule` dropped. A truncated story's example is its end, any other's its beginning."""
        self.rules[rule].dropped += 1
        if len(self.rules[rule].examples) < EXAMPLES:
            self._example(rule, text[-EXAMPLE_CHARACTERS:] if rule == "truncated" else text)

    def _example(self, rule: str, text: str) -> None:
        # A lone surrogate cannot be written to JSON as UTF-8.
        printable = text[:EXAMPLE_CHARACTERS].encode("utf-8", "backslashreplace").decode()
        self.rules[rule].examples.append(printable[:EXAMPLE_CHARACTERS])

    def __add__(self, other: "CleaningReport") -> "CleaningReport":
        total = CleaningReport(self.read + other.read, problems=self.problems + other.problems)
        for name, rule in total.rules.items():
            mine, theirs = self.rules[name], other.rules[name]
            rule.changed = mine.changed + theirs.changed
            rule.dropped = mine.dropped + theirs.dropped
            rule.examples = (mine.examples + theirs.examples)[:EXAMPLES]
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain data: `read`, `kept`, `rules` (changed, dropped, examples of each), `problems`."""
        return {
            "read": self.read,
            "kept": self.kept,
            "rules": {name: dict(vars(rule)) for name, rule in self.rules.items()},
            "problems": dict(sorted(self.problems.items())),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "CleaningReport":
        """The report that `to_json` wrote."""
        report = cls(data["read"], problems=Counter(data["problems"]))
        for name, rule in data["rules"].items():
            report.rules[name] = RuleReport(rule["changed"], rule["dropped"], list(rule["examples"]))
        return report

    def problems_told(self) -> str:
        """The most frequent problems of reading, and where the first was; empty where there are none.

        >>> CleaningReport(problems=Counter({"malformed JSON": 2})).problems_told()
        '2 x malformed JSON'
        """
        told = "; ".join(f"{count:,} x {problem}" for problem, count in self.problems.most_common(5))
        example = next(filter(None, self.rules["reading"].examples), None)
        return f"{told} (first: {example.partition(' -> ')[0]})" if told and example else told

    def line(self) -> str:
        """One line for people.

        >>> CleaningReport(read=3).line()
        '3 records read, 3 kept, 0 dropped'
        """
        counts = f"{self.read:,} records read, {self.kept:,} kept, {self.dropped:,} dropped"
        return f"{counts}; problems: {self.problems_told()}" if self.problems else counts

    def table(self, title: str = "Cleaning") -> "Table":
        """The counts as a table for the console."""
        from rich.table import Table

        table = Table(title=title)
        table.add_column("rule")
        table.add_column("changed", justify="right")
        table.add_column("dropped", justify="right")
        for name, rule in self.rules.items():
            table.add_row(name.replace("_", " "), f"{rule.changed:,}", f"{rule.dropped:,}")
        table.add_section()
        table.add_row("read", "", f"{self.read:,}")
        table.add_row("kept", "", f"{self.kept:,}")
        return table


def _first_difference(before: str, after: str) -> int:
    pairs = enumerate(zip(before, after, strict=False))
    return next((i for i, (b, a) in pairs if b != a), min(len(before), len(after)))

"""metrics.jsonl: every number of a run, one JSON object a line."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storylm.training.journal import Entry, Journal
from storylm.training.records import EvaluationRecord, StepRecord


class MetricsFile(Journal):
    """Writes each record as a line with its "kind"; numbers that are not finite, which JSON lacks, as null.

        {"kind": "step", "step": 10, "steps": 5000, "loss": 8.31, "lr": 0.0001, ...}
        {"kind": "evaluation", "step": 500, "nats_per_token": 2.13, "bits_per_byte": 0.87, "best": true, ...}

    What the machine took for it apart (`seconds`, `tokens_per_second`, `share_of_peak`, `memory_bytes`), the lines
    of a resumed run are those of an uninterrupted one.
    """

    def after_step(self, record: StepRecord) -> None:
        """Write a line of kind "step"."""
        self._write("step", record)

    def after_evaluation(self, record: EvaluationRecord) -> None:
        """Write a line of kind "evaluation"."""
        self._write("evaluation", record)

    def entries(self, text: str) -> Iterable[Entry]:
        """Every line that is a whole record."""
        for line, record in _parse(text):
            yield Entry(record["step"], record["kind"], line + "\n")

    def _write(self, kind: str, record: StepRecord | EvaluationRecord) -> None:
        values = {key: None if _lost(value) else value for key, value in asdict(record).items()}
        self.write(Entry(record.step, kind, json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records in a metrics.jsonl, oldest first; what a crash left of a last line is passed over."""
    return [record for _, record in _parse(path.read_text(encoding="utf-8", errors="replace"))]


def _parse(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int) and isinstance(record.get("kind"), str):
            yield line, record


def _lost(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)

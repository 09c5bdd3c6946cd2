"""The Markdown table of the results."""

import json
import subprocess
import sys
from pathlib import Path

from peers.rounds import BENCHMARKS, summary
from table import HEAD, label, table

from benchmarks.test_rounds import one


def results() -> dict:
    measured = {
        "storylm": [one([0.125], 30.0), one([0.1], 4.0)],
        "plain": [one([1.0], 2.0), one([1.0], 2.0)],
        "trainer-bf16": [{"failed": "a | b"}],
    }
    rows = summary(measured, 1000, 1, "plain", 100_000.0)
    return {"shapes": {"xs-3m": {"batch": 8, "context": 512, "contenders": rows}}}


def test_every_contender_has_a_row() -> None:
    head, rule, ours, plain, failed = table(results()).splitlines()
    assert {line.count("|") for line in (head, rule, ours, plain, failed)} == {len(HEAD) + 1}
    assert "`xs-3m`<br>8 x 512 | **storylm** | 9,000 | 8,000 to 10,000 | **9.00** (8.00 to 10.0" in ours
    assert "9.0%" in ours
    assert "30 / 4 s" in ours
    assert "32 / 3 steps" in ours
    assert "`xs-3m`" not in plain
    assert "failed: a / b" in failed


def test_labels_say_what_is_not_said() -> None:
    assert label("plain") == "plain loop, fp32, not compiled"
    assert label("plain-bf16-compile") == "plain loop, bf16, compiled"
    assert label("storylm-eager") == "**storylm**, not compiled"


def test_it_needs_no_torch_and_reads_what_is_kept() -> None:
    code = "import sys, json, table; r = json.load(sys.stdin); table.table(r); assert 'torch' not in sys.modules"
    kept = Path(BENCHMARKS, "results").glob("train-*.json")
    for text in [json.dumps(results()), *(path.read_text(encoding="utf-8") for path in kept)]:
        subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True, cwd=BENCHMARKS)

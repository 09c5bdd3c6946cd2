"""docs/reliability.md shows what was recorded, and what was recorded is what is promised."""

import json

from reliability.report import RESULTS, ROOT, table
from reliability.rows import ROWS, SEED


def test_the_page_shows_the_recorded_figures() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert f"<!-- reliability -->\n{table()}\n<!-- /reliability -->" in page, "run `make docs`"


def test_every_row_was_recorded_in_full() -> None:
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert recorded["seed"] == SEED
    assert recorded["rows"].keys() == ROWS.keys()
    for name, row in ROWS.items():
        assert recorded["rows"][name]["count"] >= max(row.full, 1), name


def test_no_figure_is_a_failure() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    for row in rows.values():
        assert not any(row.get(failure) for failure in ("lost", "poisoned", "crashes"))
        assert row.get("identical", 0) == (row.get("runs", row["count"]) if "identical" in row else 0)
    assert rows["numbers"]["skipped"] == rows["numbers"]["bad"]
    assert rows["rot"]["detected"] == rows["rot"]["count"]
    assert rows["save"]["control_lost"] >= 0.2 * rows["save"]["count"]

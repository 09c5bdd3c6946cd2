"""The table of docs/playground.md: the page's shortcuts, from the page's own list."""

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src/storylm/serve/static/shortcuts.js"


def shortcuts() -> str:
    """Every key and what it does."""
    rows = re.findall(r'^  \["(\S+)", "([^"]+)", "\w+"', SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows, f"{SOURCE} has no table of keys"
    return "\n".join(["| key | |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in rows)])


TABLES = {"shortcuts": shortcuts}

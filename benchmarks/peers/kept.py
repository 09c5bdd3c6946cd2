"""Files of results that grow row by row: each is written as soon as it has been measured."""

import json
from pathlib import Path
from typing import Any

from storylm.config.files import write_text


def read(output: Path, group: str) -> dict[str, Any]:
    """What the file has; where there is none yet, no rows."""
    return json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {group: {}}


def keep(output: Path, group: str, name: str, row: dict[str, Any], **about: Any) -> dict[str, Any]:
    """Set the row `name` of `group`, and what the file is `about`; all the file has then.

    It is read anew for that: what others wrote into it while the row was measured, for hours perhaps, stays.
    """
    results = read(output, group) | about
    results[group][name] = row
    write(output, results)
    return results


def write(output: Path, results: dict[str, Any]) -> None:
    """All of the file anew."""
    write_text(output, json.dumps(results, indent=1, ensure_ascii=False) + "\n")

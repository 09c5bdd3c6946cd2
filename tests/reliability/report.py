"""The reliability table: what each test does, and what its full size gave when it was recorded.

    python tests/reliability/report.py            run every test in full and record what it gives
    python tests/reliability/report.py kill rot   only these rows

`rows.py` says what is promised.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from storylm.config.files import write_text

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))  # where pytest finds it, and a script does not

from reliability.rows import ROWS, SEED  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
RECORD = "STORYLM_RECORD"  # names the file that full tests add their figures to


def record(name: str, seconds: float, figures: dict[str, Any]) -> None:
    """Add the figures of a row to the file that `RECORD` names."""
    path = Path(os.environ[RECORD])
    rows = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**rows, name: {**figures, "seconds": round(seconds)}}))


def table() -> str:
    """The table of docs/reliability.md, from the recorded figures."""
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    rows = ["| what happens | how | in `make test` | in full | result | to repeat |", "|---|---|--:|--:|---|---|"]
    for name, row in ROWS.items():
        figures, fast = recorded.get(name), row.fast or ""
        result = row.result.format(**figures) if figures else "not yet run in full"
        count = f"{figures['count']:,}" if figures else ""
        rows.append(f"| {row.title} | {row.design} | {fast} | {count} | {result} | `{name}` |")
    return "\n".join(rows)


def main(names: list[str]) -> int:
    """Run the full tests of these rows (none: all), record the figures of those that pass; the exit code of pytest."""
    if unknown := set(names) - ROWS.keys():
        print(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    wanted = " or ".join(f"test_{name}" for name in names)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.json"
        command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "-q", "-m", "slow", "-k", wanted]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, RECORD: str(path)}).returncode
        rows = json.loads(path.read_text()) if path.exists() else {}
    if rows:
        before = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else {}
        both = {**before, **rows}
        content = {
            "what": "faults put into training runs, and what became of them; seconds of wall time, other work going on",
            "seed": SEED,
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "versions": {"python": platform.python_version(), "torch": _version("torch")},
            "rows": {name: both[name] for name in ROWS if name in both},
        }
        write_text(RESULTS, json.dumps(content, indent=1) + "\n")
        print(f"wrote {RESULTS.relative_to(ROOT)}: run `make docs`")
    return code


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

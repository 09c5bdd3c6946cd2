"""Write the tables of README.md and docs/ anew from the code, so that each fact is said once.

    python docs/build.py            write
    python docs/build.py --check    fail if anything would change

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`; NAME is a key of `TABLES`.
"""

import ast
import re
import sys
from pathlib import Path

import communication
import measured
import reproducing
import shortcuts
import studied
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def tree() -> str:
    """Every source file with the first line of its docstring."""
    lines = ["```"]
    for folder in sorted({path.parent for path in (ROOT / "src/storylm").rglob("*.py")}):
        lines.append(f"{folder.relative_to(ROOT).as_posix()}/")
        for file in sorted([*folder.glob("*.py"), *folder.glob("*.cpp"), *folder.glob("*.h")]):
            text = file.read_text(encoding="utf-8")
            about = ast.get_docstring(ast.parse(text)) if file.suffix == ".py" else text.removeprefix("// ")
            summary = (about or "").split("\n")[0]
            if summary or file.name != "__init__.py":
                lines.append(f"  {file.name:<18} {summary}")
    return "\n".join([*lines, "```"])


def commands() -> str:
    """Every command with the first sentence of its help."""
    from storylm.cli import COMMANDS

    rows = []
    for command in COMMANDS:
        first_sentence = re.split(r"(?<=[.;]) ", " ".join((command.__doc__ or "").split()))[0]
        rows.append(f"| `storylm {command.__name__}` | {first_sentence.rstrip('.;')} |")
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def presets() -> str:
    """Every preset with its exact number of parameters."""
    from storylm.config.load import preset, preset_names
    from storylm.model.count import parameters

    rows = []
    for name in preset_names():
        run = preset(name)
        model = run.model
        numbers = f"{parameters(model):,} | {model.layers} x {model.width} | {model.context:,} | {model.vocab_size:,}"
        rows.append(f"| `{name}` | {model.family} | {numbers} | {run.about} |")
    head = [
        "| preset | family | parameters | layers x width | context | vocabulary | source |",
        "|---|---|--:|---|--:|--:|---|",
    ]
    return "\n".join([*head, *rows])


def settings() -> str:
    """Every setting with its default, from the schema."""
    from storylm.config.schema import RunConfig

    rows = ["| setting | default | what it is |", "|---|---|---|"]

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                walk(inner, f"{prefix}{name}.")
                continue
            default = "null" if field.default is None else field.default
            shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
            rows.append(f"| `{prefix}{name}` | {shown} | {field.description} |")

    walk(RunConfig, "")
    return "\n".join(rows)


def formats() -> str:
    """Every format of `storylm export`."""
    from storylm.export.formats import FORMATS

    rows = [f"| `{name}` | {row.about} | {', '.join(row.precisions)} |" for name, row in FORMATS.items()]
    return "\n".join(["| format | what it is | precisions, the first unless asked otherwise |", "|---|---|---|", *rows])


TABLES = {
    "tree": tree,
    "commands": commands,
    "presets": presets,
    "settings": settings,
    "formats": formats,
    **communication.TABLES,
    **measured.TABLES,
    **reproducing.TABLES,
    **shortcuts.TABLES,
    **studied.TABLES,
}


def build(page: Path) -> str:
    """The page's text with every table in it written anew."""
    text = page.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if pattern.search(text):
            body = table()
            text = pattern.sub(lambda match, body=body: match[1] + body + "\n" + match[2], text)
    return text


def main() -> int:
    """Write the pages, or with --check say which would change."""
    stale = [page for page in PAGES if build(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'} {page.relative_to(ROOT)}")
        if "--check" not in sys.argv:
            page.write_text(build(page), encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())

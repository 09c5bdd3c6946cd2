"""pyproject.toml declares every package that is imported: what comes along with another may stop to."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def normal(name: str) -> str:
    return name.replace("_", "-").lower()


def imported() -> set[str]:
    """Top names of all imports in src, those inside functions included."""
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_imported_packages_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    declared = {normal(re.split(r"[\[<>=]", line)[0]) for line in lines}
    owners = importlib.metadata.packages_distributions()
    others = imported() - sys.stdlib_module_names - {"storylm", "compression"}  # the latter is Python 3.14's
    assert not {name for name in others if not declared & set(map(normal, owners.get(name, [name])))}

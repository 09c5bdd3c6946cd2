"""What installing storylm costs, and that the core alone is enough to import all of it."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import storylm

SOURCE = Path(storylm.__file__).parent
MODULES = sorted(
    ".".join(("storylm", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    # on_datatrove extends datatrove's classes; `executors` asks for the extra before it imports it.
    # What serves is FastAPI's and uvicorn's world; `serve.server` asks for the extra.
    if path.name not in ("__main__.py", "on_datatrove.py") and path.parent.name != "serve"
)


def normal(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(*names: str) -> set[str]:
    """The installed packages that these need, themselves included, without extras."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(normal(requirement.name))
    return found


def size(name: str) -> int:
    """Bytes of a package as installed, without the bytecode that Python adds."""
    files = importlib.metadata.files(name) or []
    paths = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def test_core_is_at_most_35_packages_and_60_megabytes_beyond_torch_and_numpy() -> None:
    extra = closure("storylm") - closure("torch", "numpy") - {"storylm"}
    sizes = {name: size(name) for name in extra}
    assert len(extra) <= 35, sorted(extra)
    assert sum(sizes.values()) <= 60e6, sorted(sizes.items(), key=lambda item: -item[1])[:8]


IMPORT_ALL = """
import importlib, importlib.abc, importlib.metadata, json, re, sys
allowed, modules = json.loads(sys.argv[1]), json.loads(sys.argv[2])
owners = importlib.metadata.packages_distributions()

class CoreOnly(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        packages = owners.get(name.partition(".")[0], [])
        if packages and not any(re.sub(r"[-_.]+", "-", p).lower() in allowed for p in packages):
            raise ModuleNotFoundError(f"No module named {name!r} (not in the core install)", name=name)

sys.meta_path.insert(0, CoreOnly())
for module in modules:
    importlib.import_module(module)
import storylm
for name in storylm.__all__:
    getattr(storylm, name)
try:
    import matplotlib
except ModuleNotFoundError:
    print("extras are absent")
"""


def test_every_module_imports_with_the_core_alone() -> None:
    assert len(MODULES) > 40
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(sorted(closure("storylm"))), json.dumps(MODULES)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "extras are absent" in done.stdout


@pytest.mark.parametrize("name", storylm.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    assert getattr(storylm, name).__doc__


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tell'"):
        storylm.tell  # noqa: B018

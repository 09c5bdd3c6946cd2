"""The packages that formats need, asked for where they are used."""

from importlib import import_module
from typing import Any

from storylm.config.errors import SetupError


def package(name: str, extra: str = "export") -> Any:
    """The module of an optional package, or one inside it.

    Raises:
        SetupError: it is not installed; says which extra has it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise SetupError(f"this needs the package {name.partition('.')[0]}: pip install 'storylm[{extra}]'") from error

"""Settings as flat values by dotted name: from a YAML tree, from `key=value` texts, and back to a tree."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from storylm.config import plain_yaml
from storylm.config.errors import UsageError
from storylm.config.keys import FIELDS, GROUPS, allowed, choices, suggestion, takes

Values = dict[str, Any]
"""Dotted name -> value, as YAML has it: numbers, text, lists, None."""

_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)  # ValueError: a number of thousands of digits


def read_yaml(text: str, where: str) -> dict:
    """The mapping that YAML text holds, {} for an empty one; `UsageError` for anything else."""
    try:
        values = plain_yaml.load(text)
    except _NOT_YAML as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{where} holds no settings: write them as 'optim:' and, indented below it, 'lr: 0.001'")
    return values


def flatten(tree: Mapping, where: str = "", prefix: str = "") -> Values:
    """A tree of settings by dotted name; `UsageError`, with `where` in it, for names unknown or given twice.

    >>> flatten({"optim": {"lr": 0.001}, "data.context": 256})
    {'optim.lr': 0.001, 'data.context': 256}
    """
    values: Values = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found: Values = {}
        if name in GROUPS and isinstance(value, Mapping):
            found = flatten(value, where, f"{name}.")
        elif name in GROUPS:
            if value is not None:  # a group with all its lines commented out is empty
                raise UsageError(f"{name!r}{where} is a group of settings, not {value!r}: set one of {_members(name)}")
        elif name in FIELDS:
            found = {name: value}
        else:
            raise UsageError(f"unknown setting {name!r}{where}{suggestion(name) or _known(prefix)}")
        if twice := values.keys() & found.keys():
            raise UsageError(f"{min(twice)!r} is set twice{where}: leave out one")
        values |= found
    return values


def parse_overrides(overrides: Sequence[str]) -> Values:
    """`key=value` texts by dotted name, values read as YAML.

    >>> parse_overrides(["model.windows=[null, 256]", "train.compile=on"])
    {'model.windows': [None, 256], 'train.compile': 'on'}
    """
    values: Values = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"{override!r} is no setting: write key=value, as in optim.lr=1e-3")
        key = key.strip()
        if key in GROUPS:
            raise UsageError(f"{key!r} is a group of settings: set one of {_members(key)}")
        value: Any = text
        # Text stays as it is, so that "on", "12" and "a: b" need no quotes.
        textual = key in FIELDS and (choices(key) or takes(key, str))
        if not textual or (text in ("null", "~", "") and takes(key, type(None))):
            try:
                value = plain_yaml.load(text)
            except _NOT_YAML:
                raise UsageError(f"{override!r}: the value is not valid YAML{_expected(key)}") from None
        tree: Any = value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        values |= flatten(tree)
    return values


def nest(values: Values) -> dict:
    """The tree again: {"optim.lr": 1} becomes {"optim": {"lr": 1}}."""
    tree: dict = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return tree


def _expected(name: str) -> str:
    return f"; allowed is {allowed(name)}" if name in FIELDS else suggestion(name)


def _known(prefix: str) -> str:
    return f": allowed here are {_members(prefix[:-1])}"


def _members(group: str) -> str:
    start = f"{group}." if group else ""
    return ", ".join(dict.fromkeys(name.removeprefix(start).split(".")[0] for name in FIELDS if name.startswith(start)))


def write_yaml(values: Values, comments: Mapping[str, str] | None = None) -> str:
    """Flat values as a YAML tree, one line each, with comments by dotted name, aligned but for very long lines.

    >>> print(write_yaml({"name": "a", "optim.lr": 0.1}, {"name": "default", "optim.lr": "override"}), end="")
    name: a    # default
    optim:
      lr: 0.1  # override
    """
    lines: list[tuple[str, str]] = []
    path: list[str] = []
    for name, value in values.items():
        *groups, last = name.split(".")
        for depth, group in enumerate(groups):
            if path[: depth + 1] != groups[: depth + 1]:
                lines.append((f"{'  ' * depth}{group}:", ""))
        path = groups
        lines.append((f"{'  ' * len(groups)}{last}: {plain_yaml.inline(value)}", (comments or {}).get(name, "")))
    column = max((len(line) for line, comment in lines if comment and len(line) <= 48), default=0)
    return "".join(f"{line:<{column}}  # {comment}\n" if comment else f"{line}\n" for line, comment in lines)

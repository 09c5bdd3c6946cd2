"""YAML as people mean it: numbers and words of YAML 1.2's core schema, and no key twice in one group.

YAML 1.1, which PyYAML reads, takes 010 for 8, 1:30 for 90, `on` for true and 1e-3 for text.
"""

import re
import sys
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (re.compile(r"~|null|Null|NULL|"), [*"~nN", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), [*"tTfF"]),
    "int": (re.compile(r"[-+]?\d+", re.ASCII), [*"-+0123456789"]),
    "float": (
        re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII),
        [*"-+.0123456789"],
    ),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML copies it before it adds to it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if key.value in names[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is set twice", key.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""


for _kind, (_pattern, _first) in _CORE.items():
    # `fullmatch` is what PyYAML lacks: it asks for a match at the beginning.
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z", _pattern.flags)
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_TAG + _kind, _whole, _first)
_Loader.add_constructor(f"{_TAG}int", lambda loader, node: int(node.value))


def load(text: str) -> Any:
    """What YAML text holds. Raises `yaml.YAMLError` or `ValueError` (a number of thousands of digits).

    >>> load("{steps: 010, lr: 1e-3, compile: on, time: 1:30}")
    {'steps': 10, 'lr': 0.001, 'compile': 'on', 'time': '1:30'}
    """
    return yaml.load(text, _Loader)  # a SafeLoader


def inline(value: Any) -> str:
    """A value as YAML on one line; quoted only where it must be. `load` gives it back."""
    for style in (None, '"'):  # only in double quotes do line ends stay within the line
        text = yaml.dump(
            [value], Dumper=_Dumper, default_flow_style=True, default_style=style, allow_unicode=True, width=sys.maxsize
        ).strip()
        if len(text.splitlines()) == 1:
            break
    return text[1:-1]

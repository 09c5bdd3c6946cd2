"""Settings as YAML: what is written is read as meant, by YAML 1.1 too."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from storylm.config.plain_yaml import inline, load

ODD = (
    "010",
    "08",
    "0x10",
    "1e-3",
    "1:30",
    "1_000",
    "on",
    "Yes",
    "null",
    "~",
    "",
    "true",
    ".5",
    ".inf",
    "2024-01-01",
    "<<",
)
TEXTS = st.sampled_from(ODD) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-7", -7),
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1:30", "1:30"),
        ("1.5:30", "1.5:30"),
        ("2024-01-01", "2024-01-01"),
        ("off", "off"),
        ("TRUE", True),
        ("[~, null, ]", [None, None]),
        ("'010'", "010"),
        ("٣", "٣"),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    found = load(text)
    assert (found, type(found)) == (value, type(value))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS, st.lists))
def test_whatever_is_written_is_read_again(value: object) -> None:
    assert load(inline(value)) == value


@given(TEXTS)
def test_other_readers_of_yaml_find_the_same_text(text: str) -> None:
    assert yaml.safe_load(f"[{inline(text)}]") == [text]


@pytest.mark.parametrize("text", ["{a: 1, a: 1}", "{b: {a: 1, c: 2, a: 3}}", "[{a: 1, 'a': 2}]"])
def test_no_key_twice(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="'a' is set twice"):
        load(text)
    assert load("[{a: 1}, {a: 2}]") == [{"a": 1}, {"a": 2}]

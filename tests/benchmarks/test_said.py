"""Why a process failed, from what it said."""

import pytest
from peers.said import last_words


@pytest.mark.parametrize(
    ("stderr", "why"),
    [
        ("a warning\nstorylm: too little memory:\ntake fewer rows\n", "storylm: too little memory: take fewer rows"),
        ("storylm: no stories\n", "storylm: no stories"),
        ("Traceback\nValueError: 3\n", "ValueError: 3"),
        ("Traceback\nImportError: not storylm: another\n", "ImportError: not storylm: another"),
        ("\n", "no message"),
    ],
)
def test_storylms_whole_message_or_the_last_line_is_why(stderr: str, why: str) -> None:
    assert last_words(stderr) == why

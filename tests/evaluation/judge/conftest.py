from collections.abc import Iterator

import pytest

from evaluation.judge.stand_in import Server, serving


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as state:
        yield state

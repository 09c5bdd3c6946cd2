"""`storylm demo`; that it trains and tells a story is seen in the tests of the documentation."""

import pytest

from cli.telling import call
from storylm.cli.demo import demo
from storylm.config.errors import UsageError


def test_a_folder_of_other_things_is_refused_before_any_work(tmp_path, monkeypatch):
    def prepare(*_):
        raise AssertionError("20,000 stories are prepared in vain")

    monkeypatch.setattr("storylm.data.prepare.prepare_cached", prepare)
    (tmp_path / "letters.txt").touch()
    with pytest.raises(UsageError, match="choose another --out"):
        call(demo, "--out", str(tmp_path))

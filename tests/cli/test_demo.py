"""`storylm demo`; that it trains and tells a story is seen in the tests of the documentation."""

import sys
from types import SimpleNamespace

import pytest

from cli.telling import call
from storylm.cli.demo import demo
from storylm.config.errors import UsageError
from storylm.data.prepare import prepare_cached


def test_a_folder_of_other_things_is_refused_before_any_work(tmp_path, monkeypatch):
    def prepare(*_):
        raise AssertionError("20,000 stories are prepared in vain")

    monkeypatch.setattr("storylm.data.prepare.prepare_cached", prepare)
    (tmp_path / "letters.txt").touch()
    with pytest.raises(UsageError, match="choose another --out"):
        call(demo, "--out", str(tmp_path))


def test_what_it_learns_from_is_said_once(tmp_path, monkeypatch):
    def train(config, *_, **__):
        prepare_cached(config)
        return SimpleNamespace(validation=None, exit_code=0)

    few = ("data.source=grammar?stories=50&validation=2", "model.vocab_size=300", "model.width=16", "model.layers=1")
    monkeypatch.setattr(sys.modules["storylm.cli.demo"], "SETTINGS", few)
    monkeypatch.setattr("storylm.training.run.train_run", train)
    for start in ("preparing the stories of", "using the stories of"):  # the first time, and ever after
        said = call(demo, "--out", str(tmp_path / "demo")).stderr.splitlines()
        assert said.count("train: 50 records read, 50 kept, 0 dropped") == 1
        assert said.count("validation: 2 records read, 2 kept, 0 dropped") == 1
        assert sum(line.startswith(start) for line in said) == 1

"""`make test-all` installs the readers that `make test` goes without, and there none of their tests is skipped."""

import subprocess
from pathlib import Path
from shutil import which

import pytest

from export.conftest import needed

ROOT = Path(__file__).parents[2]


def test_what_is_missing_is_skipped_but_fails_in_test_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORYLM_TEST_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception):
        needed("no_such_package")
    monkeypatch.setenv("STORYLM_TEST_ALL", "1")
    with pytest.raises(ModuleNotFoundError):
        needed("no_such_package")
    assert needed("json").dumps([]) == "[]"


@pytest.mark.skipif(which("make") is None, reason="no make here")
def test_make_test_all_has_them_and_says_so() -> None:
    def lines(verb: str) -> str:
        command = ["make", "--dry-run", "--always-make", verb]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for text in ("llama-cpp", "lens", "harness", "client", "STORYLM_TEST_ALL=1"):
        assert text in lines("test-all")
        assert text not in lines("test")

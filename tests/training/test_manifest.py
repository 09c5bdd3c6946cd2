"""manifest.json: what it says of every session, and what must not change between two."""

import json
import platform
import subprocess
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import storylm
from storylm.config.errors import DataError
from storylm.config.files import sha256
from storylm.data.cleaning_report import CleaningReport
from storylm.model import native
from storylm.training import manifest
from storylm.training.manifest import write_manifest


@pytest.fixture
def prepared(tmp_path) -> Any:
    """As much of prepared stories as a manifest is about."""
    folder = tmp_path / "stories"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"stories": 300}')
    report = CleaningReport(read=310)
    for _ in range(10):
        report.drop("truncated", "Once upon a")
    return SimpleNamespace(
        folder=folder,
        tokenizer=SimpleNamespace(fingerprint="a" * 64),
        stories={"train": 300, "validation": 9}.get,
        tokens={"train": 9000, "validation": 270}.get,
        bytes={"train": 30_000, "validation": 900}.get,
        report={"train": report, "validation": CleaningReport(read=9)}.get,
    )


def sessions(folder) -> list[dict[str, Any]]:
    content = json.loads((folder / "manifest.json").read_text())
    assert content.keys() == {"schema", "sessions"}
    assert content["schema"] == 1
    return content["sessions"]


def test_a_session_says_with_what_where_on_what_and_when(prepared, tmp_path) -> None:
    write_manifest(tmp_path, prepared)
    (session,) = sessions(tmp_path)
    assert session.keys() == {"started", "software", "machine", "kernels", "data", "tokenizer", "stories"}
    started = datetime.fromisoformat(session["started"])
    assert started.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=1)
    software = session["software"]
    assert software.keys() == {"storylm", "git", "python", "torch"}
    assert software["storylm"] == storylm.__version__
    assert software["python"] == platform.python_version()
    assert software["torch"] == torch.__version__
    machine = session["machine"]
    assert machine.keys() == {"platform", "cpu", "cores", "gpus"}
    assert machine["platform"] == platform.platform()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert len(machine["gpus"]) == torch.cuda.device_count()
    assert session["kernels"] == native.available(torch.device("cpu"))
    assert session["data"] == sha256(prepared.folder / "manifest.json")
    assert session["tokenizer"] == "a" * 64
    assert session["stories"] == {
        "train": {"stories": 300, "tokens": 9000, "bytes": 30_000, "dropped": {"truncated": 10}},
        "validation": {"stories": 9, "tokens": 270, "bytes": 900, "dropped": {}},
    }


def test_a_resumed_run_adds_a_session_and_keeps_the_earlier_ones(prepared, tmp_path) -> None:
    write_manifest(tmp_path, prepared)
    first = sessions(tmp_path)
    first[0]["machine"]["cpu"] = "another one"
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "sessions": first}))
    write_manifest(tmp_path, prepared)
    write_manifest(tmp_path, prepared)
    assert len(sessions(tmp_path)) == 3
    assert sessions(tmp_path)[0] == first[0]


def test_another_tokenizer_is_refused_and_nothing_written(prepared, tmp_path) -> None:
    write_manifest(tmp_path, prepared)
    before = (tmp_path / "manifest.json").read_bytes()
    prepared.tokenizer.fingerprint = "b" * 64
    with pytest.raises(DataError) as caught:
        write_manifest(tmp_path, prepared)
    assert all(part in str(caught.value) for part in (str(tmp_path), "a" * 12, "b" * 12, "--fresh"))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_going_on_without_the_kernels_is_a_warning(prepared, tmp_path, monkeypatch) -> None:
    """Without a compiler numbers differ in their last digits: a resumed run is no longer the uninterrupted one."""
    for now in (True, False):
        monkeypatch.setattr(native, "available", lambda device, now=now: now)
        write_manifest(tmp_path / str(now), prepared)
        monkeypatch.setattr(native, "available", lambda device, now=now: not now)
        with pytest.warns(UserWarning, match=f"began {'with' if now else 'without'} the kernels"):
            write_manifest(tmp_path / str(now), prepared)


def test_other_stories_are_a_warning(prepared, tmp_path) -> None:
    write_manifest(tmp_path, prepared)
    (prepared.folder / "manifest.json").write_text('{"stories": 301}')
    with pytest.warns(UserWarning, match="other stories"):
        write_manifest(tmp_path, prepared)
    first, second = sessions(tmp_path)
    assert first["data"] != second["data"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"sessions": null}', '{"sessions": 3}'])
def test_a_damaged_manifest_costs_what_it_said_and_not_the_run(damage, prepared, tmp_path) -> None:
    (tmp_path / "manifest.json").write_text(damage)
    with pytest.warns(UserWarning, match="damaged"):
        write_manifest(tmp_path, prepared)
    assert len(sessions(tmp_path)) == 1


def git(folder, *arguments: str) -> str:
    options = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *options, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_commit_is_that_of_the_code_and_says_where_it_has_changed(tmp_path) -> None:
    (tmp_path / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "theirs", "--allow-empty")
    assert manifest._commit(tmp_path) is None  # in someone's repository, but not of it
    git(tmp_path, "add", "__init__.py")
    git(tmp_path, "commit", "-qm", "a")
    git(tmp_path, "tag", "-a", "v1", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert manifest._commit(tmp_path) == commit
    (tmp_path / "__init__.py").write_text("changed = True\n")
    assert manifest._commit(tmp_path) == f"{commit}-dirty"


def test_without_git_the_commit_is_unknown(prepared, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_manifest(tmp_path, prepared)
    assert sessions(tmp_path)[0]["software"]["git"] is None

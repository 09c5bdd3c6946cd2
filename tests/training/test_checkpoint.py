"""Checkpoints: whatever is damaged, wherever a crash strikes, an intact one is found, and told from the others."""

import errno
import json
import os
import pickle
import shutil
import stat
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storylm.config import files
from storylm.config.errors import CheckpointError, SetupError
from storylm.config.model import ModelConfig
from storylm.model.store import write_model_files
from storylm.model.transformer import Transformer
from storylm.training.checkpoint import Checkpoints, TrainerState
from storylm.training.seal import MANIFEST, damage, read_seal, seal
from training.crashes import Crash, Disk

STEP = "step-00000200"


class Model:
    """As much of a model as a checkpoint sees: files, other ones after every step."""

    step = 0

    def write(self, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes([self.step % 251]) * 64)


def save(folder: Path, step: int, *, best: bool = False, keep: bool = False) -> Path:
    model = Model()
    model.step = step
    state = TrainerState(step, {"state": {"seconds": 1.5}}, {"w/momentum": torch.full((4,), float(step))})
    return Checkpoints(folder, model.write).save(state, best=best, keep=keep)


def latest(folder: Path) -> int | None:
    """The step of the checkpoint to go on from; whether model and trainer's state are of this step is seen to."""
    loaded = Checkpoints(folder, Model().write).latest()
    if loaded is None:
        return None
    step = loaded.state.step
    assert (loaded.folder / "model.safetensors").read_bytes() == bytes([step % 251]) * 64
    assert loaded.state.tensors["w/momentum"].eq(float(step)).all()
    return step


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


# -- saving and finding -----------------------------------------------------------------------------------


def test_what_was_saved_is_found(folder: Path) -> None:
    assert latest(folder) is None
    assert save(folder, 100) == folder / "last"
    loaded = Checkpoints(folder, Model().write).latest()
    assert loaded is not None
    assert loaded.folder == folder / "last"
    assert loaded.state.step == 100
    assert loaded.state.values == {"state": {"seconds": 1.5}}
    assert loaded.state.tensors["w/momentum"].equal(torch.full((4,), 100.0))


def test_last_becomes_previous_and_then_goes(folder: Path) -> None:
    for step in (100, 200, 300):
        save(folder, step)
        found = {name: (read_seal(folder / name) or {})["step"] for name in names(folder)}
        assert found == ({"last": step, "previous": step - 100} if step > 100 else {"last": step})


def test_the_best_and_those_to_keep_stay(folder: Path) -> None:
    save(folder, 100)
    save(folder, 200, best=True, keep=True)
    before = {path: path.read_bytes() for name in ("best", STEP) for path in (folder / name).iterdir()}
    assert len(before) == 2 * 5
    for step in (300, 400, 500):
        save(folder, step)
    assert names(folder) == {"last", "previous", "best", STEP}
    assert {path: path.read_bytes() for path in before} == before
    assert damage(folder / "best") is damage(folder / STEP) is None
    save(folder, 600, best=True)
    assert (read_seal(folder / "best") or {})["step"] == 600
    assert (read_seal(folder / STEP) or {})["step"] == 200


@pytest.mark.skipif(os.name == "nt", reason="hard links are counted elsewhere")
def test_the_best_costs_no_space_where_links_work_and_is_copied_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(folder, 100, best=True)
    assert (folder / "best" / "model.safetensors").samefile(folder / "last" / "model.safetensors")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    save(folder, 200, best=True)
    assert not (folder / "best" / "model.safetensors").samefile(folder / "last" / "model.safetensors")
    shutil.rmtree(folder / "last")
    assert damage(folder / "best") is None


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize(("umask", "folders", "rest"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
def test_who_may_read_is_the_users_choice(folder: Path, umask: int, folders: int, rest: int) -> None:
    before = os.umask(umask)
    try:
        save(folder, 200, best=True, keep=True)
        save(folder, 300)
    finally:
        os.umask(before)
    for path in (folder, *folder.rglob("*")):
        allowed = stat.S_IMODE(path.stat().st_mode)
        assert allowed & ~rest == 0 if path.is_file() else allowed == folders, f"{path.name}: {allowed:o}"
        # safetensors chooses the mode of its files itself: readable for the owner at least
        if path.suffix == ".json":
            assert allowed == rest


def test_no_file_holds_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for module, name in ((pickle, "dump"), (pickle, "dumps"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, refuse)
    for name in ("Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    model = Transformer(ModelConfig(vocab_size=64, context=16, layers=1, width=16, heads=2))
    checkpoints = Checkpoints(folder, lambda target: write_model_files(model, None, target))
    checkpoints.save(TrainerState(200, {"a": 1}, {"x/y": torch.ones(3)}), best=True, keep=True)
    assert checkpoints.latest() is not None
    kinds = set()
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        kinds.add(path.suffix)
        data = path.read_bytes()
        if path.suffix == ".json":
            json.loads(data)
        else:  # a length, a JSON header, and tensors that fill the rest
            (length,) = struct.unpack("<Q", data[:8])
            tensors = [tensor for name, tensor in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"]
            assert max(tensor["data_offsets"][1] for tensor in tensors) == len(data) - 8 - length
    assert kinds == {".json", ".safetensors"}


# -- damage -----------------------------------------------------------------------------------------------

FILES = ("config.json", "model.safetensors", "trainer_state.safetensors", "trainer_state.json", MANIFEST)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 100 and 200: not to be left damaged."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    save(folder, 100)
    save(folder, 200)
    assert names(folder / "last") == set(FILES)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_flip_of_any_byte_shows(two: Path, name: str) -> None:
    path = two / "last" / name
    whole = path.read_bytes()
    try:
        for position in range(len(whole)):
            flip(path, position, position % 8)
            assert name in (damage(two / "last") or ""), position
            path.write_bytes(whole)
    finally:
        path.write_bytes(whole)
    assert damage(two / "last") is None


@pytest.mark.parametrize("name", FILES)
def test_a_cut_or_growth_of_any_file_shows(two: Path, name: str) -> None:
    path = two / "last" / name
    whole = path.read_bytes()
    try:
        for data in (*(whole[:length] for length in range(len(whole))), whole + b"\n", whole + b"\0"):
            path.write_bytes(data)
            assert name in (damage(two / "last") or ""), len(data)
    finally:
        path.write_bytes(whole)


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_damaged_last_is_told_loudly_and_previous_taken(
    two: Path, name: str, share: float, bit: int, cut: bool
) -> None:
    path = two / "last" / name
    whole = path.read_bytes()
    position = int(share * len(whole))
    try:
        os.truncate(path, position) if cut else flip(path, position, bit)
        with pytest.warns(UserWarning, match=rf"DAMAGED CHECKPOINT: last: {name} .*Going on from previous, step 100"):
            assert latest(two) == 100
    finally:
        path.write_bytes(whole)
    assert latest(two) == 200  # and no warning, which would be an error here


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_shows(folder: Path, name: str) -> None:
    save(folder, 100)
    save(folder, 200)
    (folder / "last" / name).unlink()
    with pytest.warns(UserWarning, match=f"last: {name} is missing"):
        assert latest(folder) == 100


def test_the_newest_of_the_rest_is_taken_where_last_and_previous_are_damaged(folder: Path) -> None:
    save(folder, 100, best=True)
    save(folder, 200, keep=True)
    save(folder, 300)
    save(folder, 400)
    for name in ("last", "previous"):
        flip(folder / name / "model.safetensors", 5)
    with pytest.warns(UserWarning, match=r"last: .*; previous: .*Going on from step-00000200, step 200"):
        assert latest(folder) == 200


def test_all_damaged_is_an_error_that_names_each(folder: Path) -> None:
    save(folder, 100)
    save(folder, 200)
    flip(folder / "last" / "config.json", 0)
    os.truncate(folder / "previous" / "model.safetensors", 3)
    with pytest.raises(CheckpointError) as caught:
        latest(folder)
    assert "last: config.json has changed" in str(caught.value)
    assert "previous: model.safetensors has 3 bytes instead of 64" in str(caught.value)
    assert names(folder) == {"last", "previous"}  # nothing is deleted: someone may want to look


def test_a_manifest_of_a_later_version_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(folder, 100)
    (path / MANIFEST).unlink()
    with monkeypatch.context() as later:
        later.setattr("storylm.training.seal.SCHEMA", 2)
        seal(path, 100)
    with pytest.raises(CheckpointError, match="has schema 2, this version of storylm reads 1"):
        latest(folder)


def test_a_manifest_cannot_be_edited_unnoticed(folder: Path) -> None:
    path = save(folder, 100) / MANIFEST
    path.write_text(path.read_text().replace('"step": 100', '"step": 101'))
    assert damage(folder / "last") == f"{MANIFEST} is damaged"


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"sha256": ""}', "\xff"])
def test_a_manifest_that_is_something_else_is_damage(folder: Path, content: str) -> None:
    (save(folder, 100) / MANIFEST).write_text(content, encoding="latin-1")
    assert damage(folder / "last") == f"{MANIFEST} is damaged"


def test_state_that_is_sealed_but_makes_no_sense_is_an_error(folder: Path) -> None:
    path = save(folder, 100)
    (path / "trainer_state.json").write_text("{}")
    (path / MANIFEST).unlink()
    seal(path, 100)
    with pytest.raises(CheckpointError, match="trainer state"):
        latest(folder)


# -- crashes and full disks -------------------------------------------------------------------------------


def attempts(error: type[BaseException] | OSError, *, dead: bool) -> Iterator[tuple[Path, Disk, BaseException | None]]:
    """A save of step 300 with all there is to it, failing at its first act, its second..., until it succeeds."""
    with tempfile.TemporaryDirectory() as place:
        template = Path(place) / "template"
        save(template, 100, best=True)
        save(template, 200, keep=True)
        for fails_at in range(1000):
            folder = Path(place) / "checkpoints"
            shutil.copytree(template, folder)
            disk, caught = Disk(fails_at, lambda: error if isinstance(error, OSError) else error(), dead=dead), None
            with disk.at_work():
                try:
                    save(folder, 300, best=True, keep=True)
                except (Crash, SetupError) as failure:
                    caught = failure
            yield folder, disk, caught
            if not disk.failed:
                assert {"replace", "link", "mkdir", "fsync", "open", "save_file", "unlink", "rmdir"} <= set(disk.calls)
                return
            shutil.rmtree(folder)


def test_a_crash_at_any_instant_leaves_an_intact_checkpoint_and_no_litter() -> None:
    seen = []
    for folder, disk, caught in attempts(Crash, dead=True):
        assert isinstance(caught, Crash) == disk.failed
        seen.append(latest(folder))
        for name in names(folder):  # what can be chosen by name is whole, too
            assert name.startswith(files.TEMPORARY) or damage(folder / name) is None, (disk.calls[-1], name)
        assert names(folder) >= {"best", STEP}
        save(folder, 400, best=True)
        assert latest(folder) == 400
        assert names(folder) - {"step-00000300"} == {"last", "previous", "best", STEP}
    assert seen == sorted(seen)
    assert set(seen) == {200, 300}
    assert len(seen) > 30


def test_a_crash_while_last_is_damaged_does_not_cost_the_intact_one(tmp_path: Path) -> None:
    for fails_at in range(1000):
        folder = tmp_path / str(fails_at)
        for step in (100, 200, 300):
            save(folder, step, best=step == 100)
        flip(folder / "last" / "model.safetensors", 9)
        with pytest.warns(UserWarning, match="Going on from previous, step 200"):
            assert latest(folder) == 200
        with Disk(fails_at, Crash).at_work() as disk, suppress(Crash):
            save(folder, 400)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert latest(folder) in (200, 400), disk.calls  # and not 100, the best
        if not disk.failed:
            break
    assert fails_at > 15


def test_a_crash_in_the_first_save_leaves_nothing_or_a_checkpoint(tmp_path: Path) -> None:
    for fails_at in range(1000):
        folder = tmp_path / str(fails_at)
        disk = Disk(fails_at, Crash)
        with disk.at_work(), suppress(Crash):
            save(folder, 100)
        assert latest(folder) in (None, 100)
        save(folder, 200)
        assert latest(folder) == 200
        if not disk.failed:
            break
    assert fails_at > 8


@pytest.mark.parametrize("dead", [False, True], ids=["once", "for good"])
def test_a_disk_that_fails_is_told_and_the_checkpoint_before_still_loads(dead: bool) -> None:
    told = 0
    for folder, disk, caught in attempts(OSError(errno.ENOSPC, "No space left on device"), dead=dead):
        step = latest(folder)
        if caught is None:
            assert step == 300
        else:
            told += 1
            assert disk.failed
            assert str(caught).startswith(f"cannot save the checkpoint of step 300 in {folder}: [Errno 28] No space")
            assert str(caught).endswith("run again; the checkpoint saved before is still whole")
            assert step in (200, 300)
        save(folder, 400)
        assert latest(folder) == 400
        assert not any(name.startswith(files.TEMPORARY) for name in names(folder))
    assert told > 30


def test_a_disk_too_full_for_the_first_checkpoint_promises_nothing(folder: Path) -> None:
    full = Disk(3, lambda: OSError(errno.ENOSPC, "No space left on device"), dead=False)
    with full.at_work(), pytest.raises(SetupError, match=r"run again$"):
        save(folder, 100)
    assert names(folder) == set()  # what was written takes no space
    assert latest(folder) is None


def test_everything_is_durable_before_it_gets_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    replace = os.replace
    renames = []

    def check(source: Path, target: Path) -> None:
        renames.append(Path(target).name)
        if Path(target).name in ("last", "best", STEP):
            for path in (Path(source), *Path(source).iterdir()):
                assert path.stat().st_ino in synced, f"{path.name} is not synced before it becomes {target}"
        replace(source, target)
        synced.discard(Path(target).parent.stat().st_ino)

    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "replace", check)
    save(folder, 200, best=True, keep=True)
    assert renames == ["best", STEP, "last"]  # `last` last: a crash before it runs the steps to `best` again
    assert folder.stat().st_ino in synced  # and so are the names


class Event:
    """One thing in the life of a run that hypothesis makes up."""

    strategy = st.tuples(st.integers(0, 70), st.booleans(), st.booleans(), st.sampled_from(["", "", *FILES]))


@given(st.lists(Event.strategy, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_no_run_of_bad_luck_loses_what_was_intact(events: list[tuple[int, bool, bool, str]]) -> None:
    """Crash after crash, `last` damaged in between: what is found is never older than what was found before."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        save(folder, 1, best=True)
        save(folder, 2)
        for step, (fails_at, best, keep, hurt) in enumerate(events, 3):
            if hurt and {"last", "previous"} <= names(folder) and damage(folder / "previous") is None:
                flip(folder / "last" / hurt, 1)
            before = latest(folder)
            with Disk(fails_at, Crash).at_work() as disk, suppress(Crash):
                save(folder, step, best=best, keep=keep)
            after = latest(folder)
            assert after == step if not disk.failed else after in (before, step)

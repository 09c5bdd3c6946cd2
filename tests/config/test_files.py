"""Files and folders that are there whole, as before, or not at all, whatever happens while they are written."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from storylm.config import files
from storylm.config.files import (
    TEMPORARY,
    atomic_file,
    atomic_folder,
    expanded,
    link_or_copy,
    recover_folder,
    sha256,
    sweep,
    sync_folder,
    sync_tree,
    write_text,
)


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        yield


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fill(folder: Path, text: str) -> None:
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "inner" / "b.txt").write_text(text)


def read(folder: Path) -> str:
    """The text of a filled folder, the same in all of its files."""
    (text,) = {path.read_text() for path in (folder / "a.txt", folder / "inner" / "b.txt")}
    return text


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as temporary:
        fill(temporary, text)


class Crash(BaseException):
    """The process is gone: nothing works any more, clean-up included."""


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int, error: Callable[[], BaseException], *, dead: bool) -> list:
    """From now on call `number` (from 0) of what changes names or syncs raises, and all later ones where `dead`."""
    calls: list[str] = []

    def guard(name: str, function: Callable) -> Callable:
        def guarded(*arguments: object, **options: object) -> object:
            calls.append(name)
            if len(calls) == number + 1 or (dead and len(calls) > number):
                raise error()
            return function(*arguments, **options)

        return guarded

    for name in ("replace", "unlink", "rmdir", "mkdir", "fsync"):
        monkeypatch.setattr(os, name, guard(name, getattr(os, name)))
    return calls


# -- one file ---------------------------------------------------------------------------------------------


def test_a_file_is_written_and_its_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "one\ntwo é\n")
    assert path.read_bytes() == "one\ntwo é\n".encode()
    write_text(path, "three")
    assert path.read_text() == "three"
    assert names(path.parent) == {"note.txt"}


def test_until_the_end_the_file_before_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "before")
    with atomic_file(path) as temporary:
        temporary.write_text("after")
        assert temporary.parent == tmp_path  # a rename from another file system would be a copy
        assert temporary.name.startswith(TEMPORARY)
        assert path.read_text() == "before"
    assert path.read_text() == "after"


def test_a_failed_block_leaves_the_file_before_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "before")
    with suppress(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_text("aft")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert names(tmp_path) == {"note.txt"}


@pytest.mark.parametrize("dead", [False, True], ids=["fails", "crashes"])
def test_a_file_is_whole_wherever_it_fails(tmp_path: Path, dead: bool) -> None:
    seen = []
    for number in range(100):
        path = tmp_path / str(number) / "note.txt"
        write_text(path, "before")
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = crash_at(monkeypatch, number, Crash if dead else OSError, dead=dead)
            with suppress(Crash, OSError):
                write_text(path, "after")
        seen.append(path.read_text())
        write_text(path, "later")
        sweep(path.parent)
        assert path.read_text() == "later"
        assert names(path.parent) == {"note.txt"}
        if len(calls) <= number:
            break
    assert set(seen) == {"before", "after"}
    assert seen == sorted(seen, reverse=True) or not dead


def test_a_file_is_durable_before_it_gets_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[tuple[str, int]] = []
    replace = os.replace

    def note_replace(source: Path, target: Path) -> None:
        happened.append(("replace", Path(source).stat().st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: happened.append(("sync", os.fstat(descriptor).st_ino)))
    monkeypatch.setattr(os, "replace", note_replace)
    path = tmp_path / "note.txt"
    write_text(path, "text")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert happened == [("sync", file), ("replace", file), ("sync", folder)]


# -- a folder ---------------------------------------------------------------------------------------------


def test_a_folder_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model"
    write_folder(path, "before")
    (path / "more.txt").write_text("goes with the old one")
    with atomic_folder(path) as temporary:
        fill(temporary, "after")
        assert read(path) == "before"
    assert read(path) == "after"
    assert names(path) == {"a.txt", "inner"}
    assert names(path.parent) == {"model"}


def test_a_failed_block_leaves_the_folder_before_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for before in (set(), {"model"}):
        with suppress(ValueError), atomic_folder(path) as temporary:
            fill(temporary, "after")
            raise ValueError
        assert names(tmp_path) == before
        write_folder(path, "before")
    assert read(path) == "before"


@pytest.mark.parametrize("dead", [False, True], ids=["fails", "crashes"])
def test_a_folder_is_whole_wherever_it_fails(tmp_path: Path, dead: bool) -> None:
    seen = []
    for number in range(100):
        path = tmp_path / str(number) / "model"
        write_folder(path, "before")
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = crash_at(monkeypatch, number, Crash if dead else OSError, dead=dead)
            with suppress(Crash, OSError):
                write_folder(path, "after")
        recover_folder(path)  # what a reader or the next writer does
        seen.append(read(path))
        sweep(path.parent)
        assert read(path) == seen[-1]
        assert names(path.parent) == {"model"}
        write_folder(path, "later")
        assert read(path) == "later"
        assert names(path.parent) == {"model"}
        if len(calls) <= number:
            break
    assert set(seen) == {"before", "after"}
    assert seen == sorted(seen, reverse=True) or not dead
    assert len(seen) > 8


@pytest.mark.parametrize("mend", ["write", "recover", "sweep"])
def test_an_old_folder_comes_back_where_the_new_one_is_missing(tmp_path: Path, mend: str) -> None:
    path = tmp_path / "model"
    write_folder(path, "before")
    os.replace(path, tmp_path / f"{TEMPORARY}model.old")  # a crash between the two renames
    if mend == "write":
        with pytest.raises(ValueError, match="no"), atomic_folder(path):
            raise ValueError("no")
    else:
        recover_folder(path) if mend == "recover" else sweep(tmp_path)
    assert read(path) == "before"
    assert names(tmp_path) == {"model"}


def test_writing_is_not_hindered_by_an_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_folder(path, "after")
    write_folder(tmp_path / f"{TEMPORARY}model.old", "before")
    write_folder(path, "later")
    assert read(path) == "later"
    assert names(tmp_path) == {"model"}


@pytest.mark.parametrize("mend", [recover_folder, lambda path: sweep(path.parent)], ids=["recover", "sweep"])
def test_an_old_folder_goes_where_the_new_one_stands(tmp_path: Path, mend: Callable[[Path], None]) -> None:
    path = tmp_path / "model"
    write_folder(path, "after")
    write_folder(tmp_path / f"{TEMPORARY}model.old", "before")
    mend(path)
    assert read(path) == "after"
    assert names(tmp_path) == {"model"}


def test_sweeping_takes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "mine")
    write_text(tmp_path / "tmp-note", "mine")
    write_text(tmp_path / ".hidden", "mine")
    write_folder(tmp_path / f"{TEMPORARY}model.77", "half")
    (tmp_path / f"{TEMPORARY}note.txt.77").write_text("half")
    sweep(tmp_path)
    assert names(tmp_path) == {"model", "tmp-note", ".hidden"}
    sweep(tmp_path / "nowhere")


def test_everything_in_a_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    fill(tmp_path, "text")
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    sync_tree(tmp_path)
    assert synced == {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files where Linux lists them")
def test_syncing_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sync_folder(tmp_path)

    def refuse(_: int) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no"):
        sync_folder(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
def test_who_may_read_is_the_users_choice(tmp_path: Path, umask: int, folder: int, file: int) -> None:
    before = os.umask(umask)
    try:
        write_folder(tmp_path / "model", "text")
        write_text(tmp_path / "note.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == folder
    assert stat.S_IMODE((tmp_path / "note.txt").stat().st_mode) == file


# -- the rest ---------------------------------------------------------------------------------------------


def test_a_link_costs_no_space_and_a_copy_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"text\r\n\0")
    link_or_copy(source, tmp_path / "b")
    assert (tmp_path / "b").samefile(source)

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, tmp_path / "c")
    assert not (tmp_path / "c").samefile(source)
    assert (tmp_path / "c").read_bytes() == b"text\r\n\0"


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_home_folders_of_someone_and_of_no_one() -> None:
    assert expanded("~/stories") == Path.home() / "stories"
    assert expanded("some/where") == Path("some/where")
    assert expanded("a/~") == Path("a/~")
    nobody = expanded("~nosuchuser/x")
    assert nobody == Path.cwd() / "~nosuchuser/x"
    assert nobody.expanduser() == nobody


def test_folders_are_not_opened_on_windows_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Windows:
        name = "nt"

    monkeypatch.setattr(files, "os", Windows)  # no os.open: it would fail there for a folder
    sync_folder(tmp_path)

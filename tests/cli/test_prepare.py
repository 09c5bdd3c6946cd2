"""`storylm prepare` as a user meets it."""

import subprocess
import sys

import pytest

from storylm.data.prepared import Prepared

SOURCE = "grammar?stories=40&validation=6"


def prepare(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "storylm", "prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "out"
    done = prepare(SOURCE, "--tokenizer", "bytes", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_prints_what_cleaning_did_and_the_totals(folder):
    out, printed = folder
    prepared = Prepared.load(out)
    assert "Cleaning of train" in printed
    assert "near duplicates" in printed
    assert f"{prepared.tokens('train'):,} tokens" in printed
    assert f"{prepared.bytes('validation'):,} bytes" in printed
    assert "257 tokens" in printed
    assert "\r" not in printed


def test_shows_and_verifies_a_prepared_folder(folder):
    out, printed = folder
    assert prepare(out, "--verify").stdout == printed
    path = next((out / "train").glob("*.tokens"))
    good = path.read_bytes()
    path.write_bytes(good[:1200] + bytes([good[1200] ^ 1]) + good[1201:])
    done = prepare(out, "--verify")
    path.write_bytes(good)
    assert done.returncode == 3
    assert done.stderr.startswith(f"storylm: {path} is damaged")
    assert len(done.stderr.splitlines()) == 1


def test_rules_are_switched_off_by_overrides(tmp_path):
    (tmp_path / "a.txt").write_text("\n<|endoftext|>\n".join(["Hm.", "Oh."] * 3))
    off = ("cleaning.fragments=false", "cleaning.exact_duplicates=false", "cleaning.near_duplicates=false")
    done = prepare(tmp_path / "a.txt", *off, "--tokenizer", "bytes", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert Prepared.load(tmp_path / "out").stories("train") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.txt", "--out", "x"], 3, "no file, folder or corpus 'none.txt'"),
        ([SOURCE], 2, "--out DIR"),
        ([SOURCE, "cleaning.mojibak=false", "--out", "x"], 2, "did you mean 'data.cleaning.mojibake'"),
        (["~nosuchuser/x", "--out", "x"], 3, "no file, folder or corpus"),
        (["x" * 5000], 2, "--out DIR"),
        ([SOURCE, "--out", "/dev/null/x"], 4, "cannot write to /dev/null/x"),
        ([SOURCE, "train.steps=3", "--out", "x"], 2, "no setting of preparing"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, code, words):
    done = prepare(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_prepared_folder_is_not_prepared(folder, tmp_path):
    done = prepare(folder[0], "--out", tmp_path / "again")
    assert done.returncode == 2
    assert "holds prepared stories, not stories to prepare" in done.stderr
    assert not (tmp_path / "again").exists()


def test_one_story_a_line_is_noticed(tmp_path):
    (tmp_path / "lines.txt").write_text(
        "".join(f"Once there was a cat number {i}, and it purred.\n" for i in range(60))
    )
    done = prepare(tmp_path / "lines.txt", "--tokenizer", "bytes", "--out", tmp_path / "out")
    assert "problems    1 x long text without an empty line" in done.stdout
    assert "add ?separator=line" in done.stdout
    assert "(first: 'lines.txt, byte 0')" in done.stdout


def test_help_says_what_is_read_in_pieces():
    told = " ".join(prepare("--help").stdout.split())
    assert "any other file (.gz, .xz, .zst, .tar, .json) is a single piece" in told

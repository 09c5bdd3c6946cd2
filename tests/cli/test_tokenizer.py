"""`storylm tokenizer` as a user meets it."""

import gzip
import subprocess
import sys

import pytest

from storylm.text.tokenizer import Tokenizer


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "storylm", "tokenizer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_trains_saves_and_reports(tmp_path) -> None:
    done = run("grammar?stories=400&validation=50", "--vocab-size", 600, "--out", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    tokenizer = Tokenizer.load(tmp_path / "own")
    assert tokenizer.vocab_size == 600
    assert "600 tokens" in done.stdout
    assert "bytes per token on 50 stories that it was not trained on" in done.stdout
    assert "train: 400 records read, 400 kept, 0 dropped" in done.stderr
    assert "\r" not in done.stderr + done.stdout  # nothing of a terminal's in a pipe


def test_without_a_validation_split_some_stories_are_kept_for_measuring(tmp_path) -> None:
    sentence = "Once upon a time there was cat number {}. It was happy and it slept all day."
    (tmp_path / "stories.txt").write_text("\n<|endoftext|>\n".join(sentence.format(i) for i in range(120)))
    done = run(tmp_path / "stories.txt", "--vocab-size", 5000, "--out", tmp_path / "own", "--max-stories", 101)
    assert done.returncode == 0, done.stderr
    assert "on 2 stories that it was not trained on" in done.stdout
    assert "fewer than the 5,000 asked for" in done.stdout
    assert "train: 101 records read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["grammar?stories=20", "--vocab-size", 100], 2, "257"),
        (["grammar?stories=20", "--max-stories", 0], 2, "--max-stories"),
        (["nowhere.txt"], 3, "nowhere.txt"),
    ],
)
def test_mistakes_leave_nothing_behind(tmp_path, arguments, code, words) -> None:
    done = run(*arguments, "--out", tmp_path / "own")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "own").exists()


def test_a_tokenizer_is_not_overwritten(tmp_path) -> None:
    Tokenizer.load("bytes").save(tmp_path)
    done = run("grammar?stories=20", "--out", tmp_path)
    assert done.returncode == 2
    assert "already" in done.stderr
    assert Tokenizer.load(tmp_path).vocab_size == 257


def test_what_could_not_be_read_is_told(tmp_path) -> None:
    story = "Once upon a time there was cat number {}. It was happy and it slept all day.\n<|endoftext|>\n"
    whole = gzip.compress("".join(story.format(i * i) for i in range(900)).encode())
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) // 2])
    done = run(tmp_path / "cut.txt.gz", "--vocab-size", 300, "--out", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    assert "problems: 1 x file is cut or damaged (first: cut.txt.gz: " in done.stderr
    (tmp_path / "bad.txt.gz").write_bytes(b"no gzip")
    done = run(tmp_path / "bad.txt.gz", "--out", tmp_path / "other")
    assert done.returncode == 3
    assert done.stderr.startswith("storylm: no stories to train a tokenizer on: 1 records read, 0 kept, 1 dropped")
    assert "1 x file is cut or damaged" in done.stderr

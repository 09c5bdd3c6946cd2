"""`storylm generate` from the outside."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.telling import call, diverged_model, small_model
from storylm.cli.generate import generate
from storylm.cli.stories import StoryPrinter, printable
from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.generation import engine
from storylm.model.store import load


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return small_model(tmp_path_factory.mktemp("models") / "small")


def told(model: str, prompts, **settings) -> list[str]:
    return engine.generate(*load(model), prompts, **settings)


def test_stdout_is_the_story_and_nothing_else(model):
    result = call(generate, model, "--prompt", "Once upon", "--max-new-tokens", "20", "--seed", "3")
    (story,) = told(model, "Once upon", max_new_tokens=20, seed=3)
    assert result.stdout == story.removesuffix("\n") + "\n"
    assert re.fullmatch(r"\d+ tokens in \d+\.\d\d s, [\d,]+ tokens/s\n", result.stderr)


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_several_stories_are_parted_as_in_a_corpus(model, tmp_path, stream):
    (tmp_path / "prompts.txt").write_bytes("\ufeffA cat\r\n\r\nÉ\n".encode())
    arguments = ["--prompts-file", str(tmp_path / "prompts.txt"), "-p", "Once", "-n", "2", "--max-new-tokens", "9"]
    result = call(generate, model, *arguments, *stream)
    stories = told(model, ["Once", "A cat", "É"], samples=2, max_new_tokens=9)
    assert len(stories) == 6
    assert result.stdout == "<|endoftext|>\n".join(story.removesuffix("\n") + "\n" for story in stories)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 5),
        ("temperature", 0.0),
        ("top_k", 2),
        ("top_p", 0.1),
        ("min_p", 0.5),
        ("repetition_penalty", 1000.0),
        ("seed", 5),
        ("samples", 2),
    ],
)
def test_every_setting_reaches_the_engine_by_either_name(model, name, value):
    stories = told(model, "Once", **{name: value})
    assert stories != told(model, "Once")  # it matters
    expected = "<|endoftext|>\n".join(story.removesuffix("\n") + "\n" for story in stories)
    names = {name.replace("_", "-"), {"samples": "num_samples"}.get(name, name)}
    for flag in names:
        assert call(generate, model, "-p", "Once", f"--{flag}", str(value)).stdout == expected


def test_stop_strings_reach_it_too(model):
    (story,) = told(model, "Once")
    stop = next(letter for letter in story[4:] if letter.isascii() and letter.isprintable())
    stopped = call(generate, model, "-p", "Once", "--stop", "never to come", "--stop", stop).stdout
    assert stopped.rstrip("\n") == story[: story.index(stop, 4)].rstrip("\n")


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (["--max_tokens", "7", "--num_samples", "2"], {"max_new_tokens": 7, "samples": 2}),
        (["--max-tokens=7", "--num_return_sequences=2"], {"max_new_tokens": 7, "samples": 2}),
        (["--max_length", "5", "--top_k", "3"], {"max_new_tokens": 5, "top_k": 3}),
        (["--max_length", "5", "--top_k", "0"], {"max_new_tokens": 5}),
        (["--max-new-tokens", "5", "--top-k", "0"], {"max_new_tokens": 5}),
        (["--max_tokens", "99", "--max-new-tokens", "7"], {"max_new_tokens": 7}),
        (["--max-new-tokens", "7", "--max_tokens", "99"], {"max_new_tokens": 7}),
    ],
)
def test_the_published_systems_flags_are_understood(model, flags, settings):
    result = call(generate, model, "-p", "Once", *flags)
    assert result.stdout == "<|endoftext|>\n".join(
        story.removesuffix("\n") + "\n" for story in told(model, "Once", **settings)
    )


def test_but_help_does_not_list_them():
    help_text = call(generate, "--help").output
    assert "--max-new-tokens" in help_text
    assert "max_tokens" not in help_text
    assert "top_k" not in help_text.replace("top-k", "")


def test_files_hold_the_stories_and_how_they_were_told(model, tmp_path):
    stories = told(model, "É", samples=2, max_new_tokens=12)
    for ending in ("json", "jsonl", "txt"):
        out = tmp_path / "new" / f"stories.{ending}"
        call(generate, model, "-p", "É", "-n", "2", "--max-new-tokens", "12", "--output", str(out))
        content = out.read_text(encoding="utf-8")
        if ending == "txt":
            assert content == "\n<|endoftext|>\n".join(stories) + "\n"
            continue
        rows = json.loads(content)["stories"] if ending == "json" else [json.loads(row) for row in content.splitlines()]
        assert [row["text"] for row in rows] == stories
        assert [(row["prompt"], row["seed"]) for row in rows] == [("É", 0), ("É", 1)]
        assert all(row["ended"] in ("end", "length") and 1 <= row["tokens"] <= 12 for row in rows)
    about = json.loads((tmp_path / "new" / "stories.json").read_text(encoding="utf-8"))
    assert (about["model"], about["settings"]["max_new_tokens"], about["settings"]["temperature"]) == (model, 12, 0.8)


def test_a_model_without_a_tokenizer_asks_for_one(model, tmp_path):
    bare = small_model(tmp_path / "bare", tokenizer=False)
    with pytest.raises(CheckpointError, match=r"bare has no tokenizer: .*--tokenizer"):
        call(generate, bare, "-p", "Once")
    with_one = call(generate, bare, "-p", "Once", "--tokenizer", "bytes", "--max-new-tokens", "9")
    assert with_one.stdout == call(generate, model, "-p", "Once", "--max-new-tokens", "9").stdout


def test_a_long_prompt_is_refused_or_cut(model):
    with pytest.raises(UsageError, match=r"prompt is 101 tokens but the model's context is 64: .*--truncate left"):
        call(generate, model, "-p", "x" * 100)
    result = call(generate, model, "-p", "x" * 100, "--truncate", "left", "--max-new-tokens", "3")
    assert result.stdout.startswith("x" * 100)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--prompts-file", "nowhere.txt"], DataError, r"nowhere\.txt"),
        (["--prompt", "\udcff"], UsageError, "not UTF-8"),
        (["--output", "story.docx"], UsageError, r"story\.docx.*\.json"),
        (["--top-p", "2"], UsageError, "top_p=2"),
        (["--truncate", "right"], UsageError, "truncate='right'"),
        (["--stop", ""], UsageError, "stop string is empty"),
    ],
)
def test_mistakes(model, arguments, error, words):
    with pytest.raises(error, match=words):
        call(generate, model, *arguments)


@pytest.mark.parametrize(("content", "words"), [(b"\n \n", "no prompts"), (b"caf\xe9", "not UTF-8 at byte 3")])
def test_mistakes_in_the_prompts_file(model, tmp_path, content, words):
    (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        call(generate, model, "--prompts-file", str(tmp_path / "prompts.txt"))


def test_prompts_from_standard_input_and_whole_in_a_real_pipe(model: str, tmp_path: Path):
    command = [sys.executable, "-m", "storylm", "generate", model, "--prompts-file", "-", "--max-new-tokens", "5"]
    done = subprocess.run(command, input="Once\nÉ\n".encode(), capture_output=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    stories = told(model, ["Once", "É"], max_new_tokens=5)
    assert done.stdout.decode() == "<|endoftext|>\n".join(story.removesuffix("\n") + "\n" for story in stories)


class Terminal:
    """A stdout that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


def test_a_reader_may_go_before_the_end(model: str):
    command = [sys.executable, "-m", "storylm", "generate", model, "-p", "Once", "--stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_terminal_gets_numbers_between_stories_and_no_control_characters(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    printer = StoryPrinter(["One", "Two", "Three"])
    printer.add(0, " \x1b[31mred\n")
    printer.add(2, "!")
    printer.finish()
    assert terminal.text == ("\n── 1 of 3 ──\nOne \ufffd[31mred\n\n── 2 of 3 ──\nTwo\n\n── 3 of 3 ──\nThree!\n")
    terminal.text = ""
    printer = StoryPrinter(["Alone"])
    printer.finish()
    assert terminal.text == "Alone\n"


def test_printable_keeps_what_people_write():
    assert printable("Zoë said: “Hi!” 🙂\n\ta\u00a0b\r\nc") == "Zoë said: “Hi!” 🙂\n\ta\u00a0b\nc"
    assert printable("\x07\x1b\x00\x9b\x1c") == "\ufffd" * 5


def test_a_model_that_diverged_tells_nothing_and_says_why(tmp_path):
    broken = diverged_model(tmp_path / "diverged")
    for settings in ((), ("--temperature", "0"), ("--stream",)):
        with pytest.raises(CheckpointError, match="scores of the next token are not numbers"):
            call(generate, broken, "--prompt", "Once", *settings)

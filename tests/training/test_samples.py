"""samples.md: whatever a model tells, the file stays readable, by people and by the run that goes on."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storylm.training.samples import SamplesFile

ODD = [
    "",
    "\n\n",
    "## Step 7\n\n> no\n",
    "> quoted\n# Title",
    "```\nopen",
    "a\r## Step 9\r\nb",
    "\x00\x1b[31m",
    "’“🐻\u2028x",
]


def tell(path: Path, stories, first_step: int = 0) -> bytes:
    samples = SamplesFile(path, first_step)
    for step, text in stories:
        samples.after_sample(step, text)
    samples.close()
    return path.read_bytes()


def test_a_story_is_a_quoted_section_under_its_step(tmp_path) -> None:
    told = [(500, "Once upon a time\n\nThe end."), (500, "A dog ran.  "), (12_000, "A cat sat.")]
    assert tell(tmp_path / "samples.md", told).decode() == (
        "# Samples\n\n"
        "## Step 500\n\n> Once upon a time\n>\n> The end.\n\n"
        "## Step 500\n\n> A dog ran.\n\n"
        "## Step 12,000\n\n> A cat sat.\n\n"
    )


@settings(max_examples=50, deadline=None)  # each example waits for the disk
@given(st.sampled_from(ODD) | st.text())
@example("a\r## Step 9\rb")
def test_no_story_can_look_like_a_heading(tmp_path_factory, text) -> None:
    path = tmp_path_factory.mktemp("run") / "samples.md"
    lines = tell(path, [(5, text)]).decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert lines[:4] == ["# Samples", "", "## Step 5", ""]
    assert all(line.startswith(">") for line in lines[4:-2])
    assert lines[-2:] == ["", ""]


@settings(max_examples=50, deadline=None)  # each example waits for the disk
@given(st.data())
def test_a_resumed_file_is_that_of_an_uninterrupted_run(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("run")
    texts = st.sampled_from(ODD) | st.text()
    told = [(step, f"{number}{data.draw(texts)}") for step in (0, 500, 1000, 1500) for number in range(2)]
    whole = tell(folder / "whole.md", told)
    saved = data.draw(st.sampled_from([0, 500, 1000]))
    least = len(tell(folder / "part.md", [story for story in told if story[0] <= saved]))
    died = data.draw(st.integers(least, len(whole)))
    (folder / "resumed.md").write_bytes(whole[:died])
    again = data.draw(st.booleans())
    rest = [story for story in told if story[0] > saved or (again and story[0] == saved)]
    assert tell(folder / "resumed.md", rest, saved) == whole


@pytest.mark.parametrize("text", ODD)
def test_later_stories_are_forgotten_and_earlier_ones_stay_to_the_letter(text, tmp_path) -> None:
    path = tmp_path / "samples.md"
    before = tell(path, [(1, text), (1500, text)])
    tell(path, [(2000, text), (2500, "gone")], 1500)
    after = tell(path, [(2500, "new")], 1500)
    assert after == before + b"## Step 2,500\n\n> new\n\n"


def test_a_lone_surrogate_ends_no_run(tmp_path) -> None:
    assert b"> a?b\n" in tell(tmp_path / "samples.md", [(1, "a\ud800b")])


def test_samples_are_essential_and_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "samples.md").mkdir()
    samples = SamplesFile(tmp_path / "samples.md", 0)
    assert samples.essential
    with pytest.raises(Exception, match=r"samples\.md") as caught:
        samples.after_sample(1, "Once.")
    assert type(caught.value).__name__ == "SetupError"

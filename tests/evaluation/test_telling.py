import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storylm.cli.stories import write_stories
from storylm.config.errors import DataError, UsageError
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.telling import Manner, part, read_told, real_stories, tell_endings
from storylm.evaluation.text.metric import Told
from storylm.generation.engine import generate, tell
from storylm.generation.sampling import Sampling
from storylm.text.words import words


@given(st.text(st.sampled_from('ab .!\n"'), max_size=80))
def test_the_two_parts_are_the_story(text):
    found = part(text)
    if found is not None:
        assert found.text == text
        assert found.told.strip()
        assert len(words(found.beginning)) >= 0.4 * len(words(text))


def test_a_story_of_one_sentence_cannot_be_parted():
    assert part("Only one sentence here.") is None
    assert part("") is None


def test_real_stories_are_those_after_the_beginnings_too(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(["Short.", *(f"Story {n} is here. It ends." for n in range(5))]))
    real = real_stories(Corpus(str(path)), 2)
    assert [story.text for story in real.endings] == ["Story 0 is here. It ends.", "Story 1 is here. It ends."]
    assert len(real.others) == 2
    assert real.whole.others[0] == Told("", real.others[0].text)
    path.write_text("Short.")
    with pytest.raises(DataError, match="no story of several sentences"):
        real_stories(Corpus(str(path)), 2)


def test_every_story_has_a_seed_of_its_own_and_batches_change_nothing(model, letters):
    prompts, manner, done = ["Once", "Once", "A cat sat on", "x" * 50], Manner(max_new_tokens=12, seed=5), []
    told = tell_endings(model, letters, prompts, manner, batch_size=3, progress=done.append)
    assert told == tell_endings(model, letters, prompts, manner)
    assert all(story.cut for story in told)  # a random model of bytes does not end a story in 12
    assert told[0].told != told[1].told
    assert told[1].text == generate(model, letters, "Once", seed=6, max_new_tokens=12)[0]
    assert [story.beginning for story in told] == prompts
    assert done == sorted(done)
    assert done[-1] == 4


def test_files_of_stories(tmp_path):
    lines = tmp_path / "told.jsonl"
    rows = [{"text": "Once upon a time.", "prompt": "Once"}, {"text": "Alone."}, {"text": "No.", "prompt": "Yes"}]
    lines.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert read_told(lines) == [Told("Once", " upon a time."), Told("", "Alone."), Told("", "No.")]
    texts = tmp_path / "told.txt"
    texts.write_text("One.\n<|endoftext|>\nTwo.\n")
    assert read_told(texts) == [Told("", "One."), Told("", "Two.")]


def test_a_file_says_whether_a_story_was_cut(tmp_path):
    rows = [{"text": "A b", "ended": ended} for ended in ("end", "stop", "length", "context")]
    (tmp_path / "told.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [story.cut for story in read_told(tmp_path / "told.jsonl")] == [False, False, True, True]


def test_what_generate_writes_is_read_whatever_characters_it_has(tmp_path, model, letters):
    """U+0085, U+2028 and U+2029 end lines for str.splitlines, and no line of JSON."""
    odd = "A\u2028B\u2029C\x85D\x0bE\nF\x1cG."
    told = tell(model, letters, [odd, "Second"], Sampling(), max_new_tokens=3)
    path = tmp_path / "told.jsonl"
    write_stories(path, told, {})
    assert [story.text for story in read_told(path)] == [story.text for story in told]
    path.write_text(path.read_text() + "\n{nonsense\n")
    with pytest.raises(DataError, match="line 4"):
        read_told(path)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("told.jsonl", "", DataError, "has no stories"),
        ("told.jsonl", '{"text": "a"}\n{nonsense', DataError, "line 2"),
        ("told.jsonl", '{"story": "a"}', DataError, "line 1: not like"),
        ("told.jsonl", '["a"]', DataError, "line 1: not like"),
        ("told.jsonl", '{"text": 3}', DataError, "line 1: not like"),
        ("told.csv", "a", UsageError, "of no known kind"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, error, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        read_told(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="none"):
        read_told(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="none"):
        read_told(tmp_path / "none.txt")

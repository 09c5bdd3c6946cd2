"""From bytes to records: separators of text, TinyStories-Instruct's fields, JSON lines and JSON arrays."""

import gzip
import io
import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storylm.config.errors import UsageError
from storylm.data import json_records, streams, text_records
from storylm.data.formats import Reading, read_records
from storylm.data.json_records import MALFORMED, json_values, read_json, read_json_lines, value_record
from storylm.data.records import ENDOFTEXT, Record
from storylm.data.streams import REPAIRED
from storylm.data.text_records import EMPTY, TOO_LONG, UNPARTED, read_text, story_record

WHOLE = (0, 1)


def text(raw: bytes | str, separator: str | None = None, share: tuple[int, int] = WHOLE) -> list[Record]:
    return list(read_text(io.BytesIO(raw.encode() if isinstance(raw, str) else raw), "a.txt", separator, share))


def lines(raw: bytes | str, column: str | None = None, share: tuple[int, int] = WHOLE) -> list[Record]:
    return list(read_json_lines(io.BytesIO(raw.encode() if isinstance(raw, str) else raw), "a.jsonl", column, share))


def array(raw: bytes | str, column: str | None = None) -> list[Record]:
    return list(read_json(io.BytesIO(raw.encode() if isinstance(raw, str) else raw), "a.json", column))


def told(records: list[Record]) -> list[str | None]:
    return [record.text for record in records]


# Text


def test_endoftext_parts_stories_and_empty_lines_within_them_stay():
    raw = f"One.\n\nStill one.\n{ENDOFTEXT}\nTwo.\n{ENDOFTEXT}\n"
    assert told(text(raw)) == ["One.\n\nStill one.", "Two."]


def test_without_endoftext_empty_lines_part_stories():
    assert told(text("One.\nStill one.\n\n \t\n\nTwo.\r\n\r\nThree.")) == ["One.\nStill one.", "Two.", "Three."]


def test_the_separator_can_be_told():
    raw = f"One.\nTwo.\n\nThree.{ENDOFTEXT}"
    assert told(text(raw, "line")) == ["One.", "Two.", f"Three.{ENDOFTEXT}"]
    assert told(text(raw, "blank")) == ["One.\nTwo.", f"Three.{ENDOFTEXT}"]
    assert told(text(raw, "endoftext")) == ["One.\nTwo.\n\nThree."]
    with pytest.raises(UsageError, match="unknown separator 'tab': use one of endoftext, blank, line"):
        text(raw, "tab")


def test_an_empty_story_between_separators_is_counted():
    records = text(f"{ENDOFTEXT}\nOne.\n{ENDOFTEXT}\n\n{ENDOFTEXT}Two.{ENDOFTEXT}\n")
    assert told(records) == ["One.", None, "Two."]
    assert records[1].problem == EMPTY
    assert records[1].where == "a.txt, byte 32"
    assert text("") == text("\n\n") == []


def test_a_byte_order_mark_and_bad_bytes():
    records = text(b"\xef\xbb\xbfOne caf\xe9." + ENDOFTEXT.encode() + b"Two.")
    assert records[0].problem == REPAIRED
    assert records[0].text.endswith("One café.")
    assert records[0].where == "a.txt, byte 0"
    assert records[1] == Record("Two.")


def test_a_story_too_long_is_counted_and_passed_over(monkeypatch):
    for module in (streams, text_records):
        monkeypatch.setattr(module, "MAX_STORY_BYTES", 1000)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 300)
    long = "long line\n" * 200
    records = text(f"One.\n\n{long}\nTwo.\n\n{'x' * 5000}\n\nThree.")
    assert told(records) == ["One.", None, "Two.", None, "Three."]
    assert [record.problem for record in records] == [None, UNPARTED, None, UNPARTED, None]
    records = text(f"One.{ENDOFTEXT}{long}{ENDOFTEXT}Two.")
    assert [record.problem for record in records] == [None, TOO_LONG, None]


def test_lines_that_are_taken_for_one_story_are_a_problem():
    lines = "".join(f"Once there was a cat number {i}.\n" for i in range(30))
    (one,) = text(lines)
    assert (one.text, one.problem) == (lines.strip(), UNPARTED)
    assert not any(record.problem for record in text(lines, "line"))
    assert not any(record.problem for record in text(lines, "blank"))  # as was asked for
    assert not any(record.problem for record in text(f"{lines}{ENDOFTEXT}{lines}"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.txt.gz"])
def test_wide_text_says_what_to_do(tmp_path, name, encoding):
    raw = ("\ufeff" * (encoding == "utf-16-be") + '{"text": "Once."}\n' * 3).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    (record,) = read_records(tmp_path / name, name, Reading())
    assert record.problem == "UTF-16 text: convert it to UTF-8"
    assert name in record.where


@settings(deadline=None)
@given(
    stories=st.lists(st.text("ab\n é", max_size=12), max_size=12),
    pieces=st.integers(1, 7),
    separator=st.sampled_from(["endoftext", "line", "blank"]),
)
def test_pieces_of_a_text_are_the_whole_each_record_once(stories, pieces, separator):
    raw = ENDOFTEXT.join(stories)
    shared = [record for piece in range(pieces) for record in text(raw, separator, (piece, pieces))]
    assert shared == text(raw, separator)


@settings(deadline=None)
@given(stories=st.lists(st.text("xyz", max_size=9), max_size=12), pieces=st.integers(1, 7))
def test_pieces_of_json_lines_are_the_whole_each_record_once(stories, pieces):
    raw = "\n".join(json.dumps({"text": story}) for story in stories)
    shared = [record for piece in range(pieces) for record in lines(raw, None, (piece, pieces))]
    assert shared == lines(raw)
    assert len(shared) == len(stories)


# TinyStories-Instruct


FIELDS = {
    "Features": "Dialogue, BadEnding",
    "Words": "quit, oak, gloomy",
    "Summary": "Two friends find\na tree.",
    "Random sentence": "They saw: an oak.",
    "Story": '\nSara and Ben were sad.\n\n"Story time!" said Ben. Words: none.\nThe end.',
}


@pytest.mark.parametrize("order", list(permutations(FIELDS))[::7])
def test_instruct_fields_in_any_order(order):
    record = story_record("\n".join(f"{name}: {FIELDS[name]}" for name in order) + "\n")
    assert record.text == FIELDS["Story"].strip()
    assert record.fields == {
        "features": "Dialogue, BadEnding",
        "words": "quit, oak, gloomy",
        "summary": "Two friends find\na tree.",
        "random sentence": "They saw: an oak.",
    }


def test_instruct_records_without_a_story_or_with_only_one():
    assert story_record("Words: a, b\nStory:   \n") == Record(None, EMPTY, {"words": "a, b"})
    assert story_record("Story: Once.") == Record("Once.")
    assert story_record("Words: no story here.") == Record("Words: no story here.")
    assert story_record("Words: a. Story: b.") == Record("Words: a. Story: b.")
    plain = "Once.\nSummary: not a field.\nStory: nor this."
    assert story_record(plain) == Record(plain)


def test_instruct_records_in_a_file():
    raw = f"Words: a\nStory: \n\nOne.\n\nMore.\n{ENDOFTEXT}\nStory: Two.\nWords: b\n{ENDOFTEXT}\n"
    assert text(raw) == [Record("One.\n\nMore.", fields={"words": "a"}), Record("Two.", fields={"words": "b"})]


# JSON


def test_json_lines_and_their_columns():
    raw = '{"text": "One.", "id": 1}\n\n{"story": "Two."}\r\n{"content": "Three."}\n"Four."'
    assert told(lines(raw)) == ["One.", "Two.", "Three.", "Four."]
    assert lines(raw)[0].fields == {"id": 1}
    assert told(lines('{"text": "no", "body": "yes"}', "body")) == ["yes"]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"text": "cut', MALFORMED),
        (b"{'text': 'quotes'}", MALFORMED),
        (b"[" * 100_000, MALFORMED),
        (b'{"text": ' + b"1" * 5000 + b"}", MALFORMED),
        (b'{"text": null}', "text is null"),
        (b'{"text": 3.5}', "text is float, not a string"),
        (b'{"text": ["a"]}', "text is list, not a string"),
        (b'{"words": "a"}', "no column text, story, content: name the story's with ?column="),
        (b'{"text": " \\n"}', EMPTY),
    ],
)
def test_a_line_that_holds_no_story_is_counted_and_the_next_is_read(raw, problem):
    bad, good = lines(raw + b'\n{"text": "Good."}')
    assert bad == Record(None, problem, bad.fields, "a.jsonl, byte 0")
    assert good == Record("Good.")


def test_endoftext_inside_a_json_story_is_text():
    raw = json.dumps({"text": f"He wrote {ENDOFTEXT} on the wall."})
    assert told(lines(raw)) == told(array(f"[{raw}]")) == [f"He wrote {ENDOFTEXT} on the wall."]


def test_json_of_other_encodings():
    assert lines(b'\xef\xbb\xbf{"text": "One."}') == [Record("One.")]
    assert array(b'\xef\xbb\xbf[{"text": "One."}]') == [Record("One.")]
    for record in (*lines(b'{"text": "caf\xe9"}'), *array(b'[{"text": "caf\xe9"}]')):
        assert (record.text, record.problem) == ("café", REPAIRED)


SHARD = [
    {
        "story": f"\n\nLily number {i} “played”.\n\nThe end.",
        "instruction": {"prompt:": "Write", "words": ["a", "b"], "features": []},
        "summary": "Lily plays.",
        "source": "GPT-4",
    }
    for i in range(50)
]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_all_data_shard(indent):
    records = array(json.dumps(SHARD, indent=indent, ensure_ascii=bool(indent)))
    assert told(records) == [row["story"] for row in SHARD]
    assert records[0].fields == {key: SHARD[0][key] for key in ("instruction", "summary", "source")}


@pytest.mark.parametrize(
    "bad", ['{"story": "a" "b"}', '{"story": nul}', '{story: "x"}', '{"story": "\\u12g4"}', '{"story": "a\nb"}']
)
def test_one_bad_object_of_an_array_costs_no_other(bad):
    records = array(f'[{{"story": "One."}}, {bad}, {{"story": "Two."}}, {{"story": "Three."}}]')
    assert told(records) == ["One.", None, "Two.", "Three."]
    assert records[1].problem == MALFORMED
    assert records[1].where == "a.json, record 1"


def test_a_cut_array_gives_what_it_holds():
    records = array(json.dumps(SHARD)[:-40])
    assert told(records) == [*(row["story"] for row in SHARD[:-1]), None]
    assert records[-1].problem == MALFORMED
    assert array("") == array("[]") == array(" \n") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(values=st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=6), size=st.integers(1, 9))
def test_json_values_wherever_the_text_is_cut(values, size):
    for raw in (
        json.dumps(values),
        "\n".join(map(json.dumps, values)),
        json.dumps(values, indent=1, ensure_ascii=False),
    ):
        pieces = (raw[start : start + size] for start in range(0, len(raw), size))
        assert list(json_values(pieces)) == values


def test_numbers_are_not_cut_in_two():
    assert list(json_values(iter("[12, 345]"))) == list(json_values(iter("12 345"))) == [12, 345]


def test_a_json_value_too_long_is_passed_over(monkeypatch):
    for module in (json_records, streams, text_records):
        monkeypatch.setattr(module, "MAX_STORY_BYTES", 2000)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 100)
    rows = [{"story": "One."}, {"story": "x" * 20_000}, {"story": "Two."}, {"story": "y" * 1990}]
    assert told(array(json.dumps(rows))) == ["One.", None, "Two.", "y" * 1990]
    assert told(lines("\n".join(map(json.dumps, rows)))) == ["One.", None, "Two.", None]
    assert value_record("z" * 2001).problem == TOO_LONG

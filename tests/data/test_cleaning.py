"""Cleaning: every rule by hand, switched off, counted; nothing is lost without a count; the real stories."""

import io
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from storylm.config.schema import CleaningConfig
from storylm.data.cleaning import (
    Cleaner,
    clean_record,
    clean_text,
    is_fragment,
    is_truncated,
    remove_control,
    repair_mojibake,
    tidy_whitespace,
)
from storylm.data.cleaning_report import EXAMPLES, RULES, CleaningReport
from storylm.data.records import ENDOFTEXT, Record

DEFAULT = CleaningConfig()
SWITCHES = [name for name in RULES if name != "reading"]
OFF = CleaningConfig(**dict.fromkeys(SWITCHES, False))


def only(*rules, **settings) -> CleaningConfig:
    return OFF.model_copy(update=dict.fromkeys(rules, True) | settings)


def clean(texts, config=DEFAULT, against=None):
    cleaner = Cleaner(config)
    kept = list(cleaner.clean([text if isinstance(text, Record) else Record(text) for text in texts], against))
    return kept, cleaner.report


def test_every_setting_is_a_rule_of_the_report():
    switches = {name for name, field in CleaningConfig.model_fields.items() if field.annotation is bool}
    assert {"reading", *switches} == set(RULES)


# Rules by hand


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ("Itâ€™s â€œfunâ€\x9d, she said.", "It’s “fun”, she said."),
        ("â€œI wantâ€ he said. â€œNo!â€", "“I want” he said. “No!”"),  # the third byte of ” is lost
        ("A cafÃ© with crÃ¨me brÃ»lÃ©e.", "A café with crème brûlée."),
        ("Wait â€“ what â€” is thatâ€¦", "Wait – what — is that…"),
        ("ðŸ˜€ said the cat.", "😀 said the cat."),
    ],
)
def test_mojibake(bad, good):
    assert repair_mojibake(bad) == good


@pytest.mark.parametrize(
    "good",
    [
        "“Curly”, ‘quotes’ — and a café, naïve; ﬁ ½ ＡＢＣ.",
        "é &amp; &lt;3 stays",
        "Old\r\nline ends\u2028here",
        "小猫说：“你好”。",
        "Price: 5 € or £ 3",
        "👩‍👩‍👧 family",
    ],
)
def test_what_is_no_mojibake_stays(good):
    assert repair_mojibake(good) == good


def test_control_characters():
    dirty = "\ufeffA\x00 b\x07a\u200bd\u202e ta\xadle\x7f\x85 of\ud800 two\ufffe."
    assert remove_control(dirty) == "A bad tale\x85 of two."
    kept = "Tab\t line\n line\r\n 👩‍👩‍👧 é 小猫."
    assert remove_control(kept) == kept


def test_whitespace():
    assert tidy_whitespace("\n\n One.\t\tTwo.\xa0 \u3000Three. \r\n \r\n\t\n\n Four.\rFive.\u2028Six.  \n") == (
        "One. Two. Three.\n\nFour.\nFive.\nSix."
    )


@settings(deadline=None)
@given(st.text(" \t\r\nab\xa0\u2028", max_size=40))
def test_tidied_text_is_tidy_and_loses_no_word(text):
    tidy = tidy_whitespace(text)
    assert tidy_whitespace(tidy) == tidy
    assert tidy.split() == text.split()
    assert not {"\r", "\t", "\xa0", "\u2028"} & set(tidy)
    assert not any(bad in tidy for bad in ("  ", " \n", "\n ", "\n\n\n"))


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("Once there was a very little cat.", False),
        ('"once," said the cat, "there was a mouse."', True),
        ("and then they all went home together.", True),
        (", she said and went home to her mom.", True),
        ("“Hello,” said the little yellow bird.", False),
        ("123 little ducks swam on the big pond.", False),
        ("从前有一只小猫，它很喜欢玩球，也喜欢睡觉和吃鱼，还喜欢在阳光下散步。", False),
        ("Too short.", True),
        ("***", True),
        ("", True),
    ],
)
def test_fragments(text, fragment):
    assert is_fragment(text, 30) is fragment
    assert clean_text(text, only("fragments")).dropped == (("fragments" if text else "reading") if fragment else None)


def test_short_stories_are_fragments_by_the_setting():
    assert not is_fragment("Too short.", 10)
    assert is_fragment("Too short.", 11)


@pytest.mark.parametrize(
    ("end", "truncated"),
    [
        ("They went home.", False),
        ("They went home." + " \n" * 50, False),
        ('"Yes!"', False),
        ("She said, “Good night.” ❤️", False),
        ("They were happy (and so was the cat!).", False),
        ("The End", False),
        ("THE END!", False),
        ("他们很高兴。", False),
        ("They went", True),
        ("They went to the end of the road", True),
        ("They went home, and", True),
        ('She said, "', True),
        ("Mr. Bear was a", True),
        ("They lent", True),
    ],
)
def test_truncated(end, truncated):
    assert is_truncated(f"Once there was a cat. {end}\n") is truncated
    assert clean_text(f"Once there was a cat. {end}", only("truncated")).dropped == ("truncated" if truncated else None)


def test_literal_endoftext_in_a_story_stays_text():
    text = f"The robot said {ENDOFTEXT} and went to sleep at once."
    assert clean([text])[0] == [text]


# Counting, and switching off

CASES = {
    "mojibake": ("The cat said itâ€™s late, and the dog slept.", 1, 0),
    "control": ("The cat\x00 said meow to the dog and purred\u200b.", 1, 0),
    "whitespace": ("The cat  said meow to the dog and purred. ", 1, 0),
    "fragments": ("and the cat said meow to the dog and purred.", 0, 1),
    "truncated": ("The cat said meow to the dog and then", 0, 1),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_is_counted_with_an_example_and_can_be_switched_off(rule):
    text, changed, dropped = CASES[rule]
    for config in (DEFAULT, only(rule)):
        kept, report = clean([text], config)
        counts = {name: (row.changed, row.dropped) for name, row in report.rules.items() if row.changed or row.dropped}
        assert counts == {rule: (changed, dropped)}
        assert len(report.rules[rule].examples) == 1
        assert len(kept) == 1 - dropped == report.kept
        assert kept != [text]
    kept, report = clean([text], DEFAULT.model_copy(update={rule: False}))
    assert kept == [text]
    assert report.rules[rule] == type(report.rules[rule])()


A = "Lily had a red ball that she loved. She lost it in the park, but Tim found it behind the big tree. They played."
NEAR = A.replace("They played.", "They played ball.")
B = "A frog sat on a log in the middle of the pond. It wanted to fly, so it asked the birds to help. They all laughed."


def test_duplicates_are_counted_and_can_be_switched_off():
    texts = [A, B, A, NEAR]
    kept, report = clean(texts)
    assert kept == [A, B]
    assert (report.rules["exact_duplicates"].dropped, report.rules["near_duplicates"].dropped) == (1, 1)
    assert clean(texts, only("exact_duplicates"))[0] == [A, B, NEAR]
    assert clean(texts, only("near_duplicates"))[0] == [A, B]
    assert clean(texts, OFF)[0] == texts


def test_overlap_is_taken_from_train_and_never_from_validation():
    validation = Cleaner(DEFAULT)
    assert list(validation.clean([Record(A), Record(B)])) == [A, B]
    assert validation.report.rules["overlap"].dropped == 0
    other = "Once a small boat sailed to the moon, and the moon said that it was glad to have a guest at last."
    kept, report = clean([NEAR, other, B], against=validation.fingerprints)
    assert kept == [other]
    assert report.rules["overlap"].dropped == 2
    kept, report = clean([NEAR, other, B], DEFAULT.model_copy(update={"overlap": False}), validation.fingerprints)
    assert kept == [NEAR, other, B]
    # The overlap is found where train's own duplicates are not looked for.
    assert clean([NEAR, other, other, B], only("overlap"), validation.fingerprints)[0] == [other, other]


def test_problems_of_reading_are_counted():
    records = [
        Record(None, "text is null", where="a.jsonl, byte 7"),
        Record(A, "repaired", where="a.jsonl, byte 9"),
        Record(" \n\t"),
        Record("A lone \ud800 surrogate stood in the wood, all by itself."),
    ]
    kept, report = clean(records, only())
    assert kept == [A]
    assert (report.read, report.kept, report.rules["reading"].dropped, report.rules["reading"].changed) == (4, 1, 3, 1)
    assert report.problems == Counter({"text is null": 1, "repaired": 1, "empty story": 1, "lone surrogates": 1})
    assert "a.jsonl, byte 7" in report.rules["reading"].examples[0]
    # With the rule on, the surrogate is removed, and the story kept.
    assert len(clean(records, only("control"))[0]) == 2


STORY = st.one_of(
    st.sampled_from([A, B, NEAR, *(text for text, _, _ in CASES.values()), "", " \n"]),
    st.text(max_size=60),
    st.text("abc ABC.!?\n“”â€\x00\ud800", min_size=30, max_size=60),
)
CONFIG = st.builds(CleaningConfig, **dict.fromkeys(SWITCHES, st.booleans()))


@settings(deadline=None)
@given(texts=st.lists(STORY, max_size=12), config=CONFIG, held_out=st.lists(STORY, max_size=4))
def test_nothing_is_dropped_silently(texts, config, held_out):
    validation = Cleaner(config)
    list(validation.clean([Record(text) for text in held_out]))
    kept, report = clean([*texts, Record(None, "text is null")], config, validation.fingerprints)
    assert report.read == len(texts) + 1
    assert report.read == len(kept) + sum(rule.dropped for rule in report.rules.values())
    assert report.kept == len(kept)
    for rule, row in report.rules.items():
        if rule != "reading" and not getattr(config, rule):
            assert (row.changed, row.dropped) == (0, 0)
    for text in kept:
        assert text.strip()
        assert text.encode()  # can be written
    # Cleaning the cleaned changes nothing, except that a rule may now see what another has uncovered.
    again, _ = clean(kept, config)
    assert again == kept or config.mojibake
    json.dumps(report.to_json()).encode()


@settings(deadline=None)
@given(st.text(max_size=80), CONFIG)
def test_cleaning_a_story_is_pure(text, config):
    assert clean_text(text, config) == clean_text(text, config)
    changed = clean_text(text, config).changed
    assert all(getattr(config, rule) for rule, _ in changed)


# The report


def test_reports_of_parts_add_up_to_that_of_the_whole():
    texts = [text for text, _, _ in CASES.values()] * 3 + [" "]
    parts = []
    for half in (texts[:7], texts[7:]):
        report = CleaningReport()
        for text in half:
            clean_record(Record(text), DEFAULT, report)
        parts.append(report)
    whole = CleaningReport()
    for text in texts:
        clean_record(Record(text), DEFAULT, whole)
    assert parts[0] + parts[1] == whole
    assert max(len(rule.examples) for rule in whole.rules.values()) <= EXAMPLES


def test_the_report_as_json_and_as_a_table():
    _, report = clean([*(text for text, _, _ in CASES.values()), A, A, B, Record(None, "text is null")])
    data = json.loads(json.dumps(report.to_json()))
    assert CleaningReport.from_json(data) == report
    assert list(data) == ["read", "kept", "rules", "problems"]
    assert (data["read"], data["problems"]) == (9, {"text is null": 1})
    assert data["rules"]["truncated"] == {"changed": 0, "dropped": 1, "examples": [CASES["truncated"][0]]}
    console = Console(file=io.StringIO(), width=100)
    console.print(report.table("Cleaning of train"))
    shown = console.file.getvalue()
    for row in (["exact duplicates", "0", "2"], ["mojibake", "1", "0"], ["read", "9"], ["kept", str(report.kept)]):
        assert any([cell for cell in row if cell in line] == row for line in shown.splitlines()), row
    assert report.line() == "9 records read, 4 kept, 5 dropped; problems: 1 x text is null (first: text is null)"


def test_an_example_shows_what_changed():
    _, report = clean([f"{'Long ago there was a bear. ' * 20}â€œHiâ€\x9d said the bear."], only("mojibake"))
    assert "â€œHi" in report.rules["mojibake"].examples[0]
    assert "-> " in report.rules["mojibake"].examples[0]
    assert "“Hi” said the bear." in report.rules["mojibake"].examples[0]


# The real stories


def test_real_stories_are_kept(train_stories, valid_stories):
    config = DEFAULT
    held_out = Cleaner(config)
    list(held_out.clean(map(Record, valid_stories)))
    assert held_out.report.kept > 0.99 * len(valid_stories)
    kept, report = clean(train_stories[:4000], config, held_out.fingerprints)
    # Dropped are stories cut by their generator's limit: less than one in a hundred.
    assert len(kept) > 0.98 * 4000
    assert report.rules["mojibake"].changed > 10
    assert not any("â€" in text for text in kept)
    assert report.rules["near_duplicates"].dropped + report.rules["overlap"].dropped < 5
    spoilt = [train_stories[0], valid_stories[0], valid_stories[1].upper(), train_stories[0] + " The end."]
    _, report = clean(spoilt, config, held_out.fingerprints)
    assert (report.rules["overlap"].dropped, report.rules["near_duplicates"].dropped) == (2, 1)

"""The built-in grammar: pure, varied, readable by its own parser, and with the entropy that it says it has."""

import hashlib
import math
import os
import re
import statistics
import subprocess
import sys
import time
from itertools import islice, pairwise

import pytest

from storylm.config.errors import DataError
from storylm.data import grammar
from storylm.data.grammar import entropy, information, readings, stories, story
from storylm.data.grammar_parser import alternatives, read_grammar

DIGEST = "2024d8d9d121fdd6b66f166b908e96402b2f1cfea60901e6a96baadac8deb00e"
"""Of the first 200 stories of corpus 0. A new grammar tells other stories: then, and only then, pin it anew."""

TINY = {
    "slots": "who",
    "parts": {"greet": "[3*Hello|Good [day|night]]"},
    "tables": {
        "who": "weight | name | is | toys\n3 | Ann | she | owl; ball\n1 | Bo | he | egg",
        "mood": "weight | name\n1 | glad\n1 | sad",
    },
    "plots": {
        "one": {
            "weight": 3,
            "slots": "mood toy=who.toys",
            "story": "<greet>, {who}! \n\n{who.He} has {toy.a}[| and is {mood}].",
        },
        "two": {"weight": 1, "slots": "", "story": "{who} ran[.|.]"},
    },
}


@pytest.fixture
def tiny(monkeypatch):
    """The grammar's functions on a grammar small enough to write out."""
    plots = read_grammar(TINY)
    monkeypatch.setattr(grammar, "plots", lambda: plots)
    for function in (grammar.entropy, grammar._most_draws):
        function.cache_clear()
    yield
    monkeypatch.undo()
    for function in (grammar.entropy, grammar._most_draws):
        function.cache_clear()


@pytest.fixture(scope="module")
def many():
    return list(stories(0, count=20_000))


def test_a_story_is_a_pure_function_of_seed_and_index(many):
    assert story(0, 19_999) == many[19_999]
    assert list(islice(stories(0, start=7), 3)) == many[7:10]
    assert list(stories(0, start=7, count=3)) == many[7:10]
    assert list(stories(0, start=7, count=0)) == []
    assert story(1, 0) != story(0, 0) != story(0, 1)
    assert story(1, 10) != story(11, 0)  # seed and index are not run together


def test_the_stories_are_the_same_in_every_process_for_ever(many):
    told = "".join(f"{text}\0" for text in many[:200])
    assert hashlib.sha256(told.encode()).hexdigest() == DIGEST
    program = (
        "import hashlib; from storylm.data.grammar import stories;"
        "print(hashlib.sha256(''.join(f'{text}\\0' for text in stories(0, count=200)).encode()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == DIGEST


def test_the_stories_vary(many):
    assert len(set(many)) == len(many)
    words = [re.findall(r"\w+", text) for text in many[:2000]]
    assert len({word for text in words for word in text}) > 900
    # Not only a name changes: most runs of eight words of a story stand in no other of a hundred.
    eights = [{tuple(text[i : i + 8]) for i in range(len(text) - 7)} for text in words[:100]]
    shared = [len(mine & set().union(*(eights[:i] + eights[i + 1 :]))) / len(mine) for i, mine in enumerate(eights)]
    assert statistics.mean(shared) < 0.3


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [
        ("a before a vowel", r"\b[Aa] [aeiou]"),
        ("an before a consonant", r"\b[Aa]n (?!hour)[^aeiou]"),
        ("a word twice", r"\b(\w+) \1\b"),
        ("space", r"  | [.,!?]| \n|\n |\n\n|\A\s|\s\Z"),
        ("small letter after a sentence", r"[.?!] [a-z]|\n[a-z]|\A[a-z]|: \"[a-z]"),
        ("two stops", r"[.!?,]{2}"),
        ("notation", r"[{}\[\]|<>*%_\\]"),
        ("no stop at the end", r"[^.!\"]\Z"),
        ("not ASCII", r"[^\x00-\x7f]"),
    ],
)
def test_the_stories_are_well_written(many, fault, pattern):
    found = [text[max(0, at.start() - 20) : at.end() + 20] for text in many for at in re.finditer(pattern, text)]
    assert not found, f"{fault}: {found[:3]}"


def test_quotes_are_paired_and_people_keep_their_sex(many):
    for text in many[:5000]:
        assert text.count('"') % 2 == 0
        # All plots have one hero; the only other people spoken of by pronouns in the first paragraph are relatives.
        first = text.split("\n")[0]
        if re.search(r"\bboy (?:named|called)", first):
            assert not re.search(r"\b(?:She|she)\b", first), first
        if re.search(r"\bgirl (?:named|called)", first):
            assert not re.search(r"\b(?:He|he)\b", first), first


def test_every_plot_is_told_and_has_what_a_story_needs(many):
    drawn = {grammar._start(0, index)[0].name: text for index, text in enumerate(many[:400])}
    assert len(drawn) == len(grammar.plots().items) == 12
    for text in drawn.values():
        assert text.count("\n") >= 2  # beginning, middle, end
        assert '"' in text  # someone speaks
        assert re.search(
            r"(?:From that day on|After that|Ever since|From then on|Even years|To this day|And so|Since then)", text
        )


def test_no_story_begins_another(many):
    assert not any(after.startswith(before) for before, after in pairwise(sorted(many)))


def test_every_story_is_read_back_in_exactly_one_way(many):
    for index in range(0, 20_000, 80):
        assert len(readings(many[index])) == 1
        assert 40 < information(many[index]) < 200


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-1], lambda t: t + " ", lambda t: t.replace(" a ", " the ", 1), lambda t: ""]
)
def test_other_texts_are_not_of_the_grammar(many, spoil):
    assert readings(spoil(many[0])) == []
    with pytest.raises(DataError, match="not a story of the built-in grammar"):
        information(spoil(many[0]))


def test_mean_information_is_the_entropy(many):
    nats = [information(text) for text in many[:1000]]
    error = statistics.stdev(nats) / math.sqrt(len(nats))
    assert error < 0.6
    assert abs(statistics.mean(nats) - entropy().nats_per_story) < 3 * error
    sizes = [len(text.encode()) for text in many]
    assert abs(statistics.mean(sizes) - entropy().bytes_per_story) < 3 * statistics.stdev(sizes) / math.sqrt(len(sizes))


def test_the_entropy_leaves_something_to_learn():
    assert 0.15 < entropy().bits_per_byte < 0.6
    assert entropy().bits_per_byte == pytest.approx(entropy().nats_per_story / math.log(2) / entropy().bytes_per_story)


def tiny_stories():
    """Every story of TINY with its probability, written out by hand."""
    for greeting, p in (("Hello", 6), ("Good day", 1), ("Good night", 1)):
        for who, he, toy, q in (("Ann", "She", "an owl", 3), ("Ann", "She", "a ball", 3), ("Bo", "He", "an egg", 2)):
            for end, r in ((".", 2), (" and is glad.", 1), (" and is sad.", 1)):
                yield f"{greeting}, {who}! \n{he} has {toy}{end}", 3 / 4 * p / 8 * q / 8 * r / 4
    yield "Ann ran.", 1 / 4 * 3 / 4
    yield "Bo ran.", 1 / 4 * 1 / 4


@pytest.mark.usefixtures("tiny")
def test_a_tiny_grammar_written_out():
    expected = dict(tiny_stories())
    assert sum(expected.values()) == pytest.approx(1)
    for text, p in expected.items():
        assert information(text) == pytest.approx(-math.log(p)), text
    assert sum(math.exp(-information(text)) for text in expected) == pytest.approx(1)
    nats = -sum(p * math.log(p) for p in expected.values())
    assert entropy().nats_per_story == pytest.approx(nats)
    assert entropy().bytes_per_story == pytest.approx(sum(p * len(text) for text, p in expected.items()))
    counts = dict.fromkeys(expected, 0)
    for text in stories(5, count=4000):
        counts[text] += 1  # KeyError: told what is not in the list
    for text, p in expected.items():
        assert abs(counts[text] / 4000 - p) < 4 * math.sqrt(p / 4000), text


def test_a_text_with_two_derivations_has_the_sum_of_their_probabilities(monkeypatch):
    twice = TINY | {"slots": "", "plots": {name: {"weight": 1, "slots": "", "story": "[The|A] end."} for name in "ab"}}
    plots = read_grammar(twice)
    monkeypatch.setattr(grammar, "plots", lambda: plots)
    assert len(readings("The end.")) == 2
    assert information("The end.") == pytest.approx(math.log(2))


def test_alternatives_add_up_and_refuse_unbalanced_brackets():
    found = alternatives("[2*a|[b|c|]]d[|e]")
    assert sum(found.values()) == 1
    assert {text: str(p) for text, p in found.items()}["ad"] == "1/3"
    for wrong in ("[a|b", "a]b"):
        with pytest.raises(AssertionError):
            alternatives(wrong)


def test_a_slot_that_depends_on_another_comes_after_it():
    plot = {"weight": 1, "slots": "toy=who.toys", "story": "{toy} for [{who}|someone]."}
    with pytest.raises(AssertionError, match="toy before who"):
        read_grammar(TINY | {"plots": {"wrong": plot}})


def test_telling_is_fast():
    start = time.process_time()
    assert sum(1 for _ in stories(9, count=2000)) == 2000
    assert (
        time.process_time() - start < 2
    )  # 1,000 stories a second even on a busy machine; 10,000 and more on an idle one
